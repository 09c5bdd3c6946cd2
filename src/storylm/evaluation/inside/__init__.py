"""Looking inside a model: what its heads look at, what its neurons wait for, what its layers would say."""
