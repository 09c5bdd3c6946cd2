// The logits that transformers.js gives: node logits.cjs MODULES MODEL < tokens.json
// Run by readers.py. MODULES is a folder with @huggingface/transformers in its node_modules.

const { createRequire } = require("node:module");
const path = require("node:path");

async function main([modules, model]) {
  const { AutoModelForCausalLM, Tensor, env } = createRequire(path.join(modules, "/"))("@huggingface/transformers");
  env.allowRemoteModels = false;
  env.localModelPath = path.dirname(model);
  const tokens = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
  const shape = [tokens.length, tokens[0].length];
  const integers = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), shape);
  const network = await AutoModelForCausalLM.from_pretrained(path.basename(model), { dtype: "fp32" });
  const { logits } = await network({
    input_ids: integers(tokens.flat()),
    attention_mask: integers(tokens.flat().map(() => 1)),
  });
  console.log(JSON.stringify({ dims: logits.dims, data: Array.from(logits.data) }));
}

main(process.argv.slice(2));
