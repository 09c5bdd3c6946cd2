#!/bin/sh
# Serve to everyone. STORYLM_MODEL: one or several models, as `storylm serve` takes them; SPACE_HOST is the name that the
# Space is called by, which Hugging Face sets. Without it this is a container on somebody's machine.
set -eu
exec storylm serve ${STORYLM_MODEL:-grammar-1m} --public --host 0.0.0.0 --port "${PORT:-7860}" \
    --allow-host "${SPACE_HOST:-localhost}" --allow-frame https://huggingface.co --slots 16 --queue 64
