// The Open Inference Protocol over REST, with binary tensors and no library: node rest.mjs http://HOST:PORT
const [address] = process.argv.slice(2);
const data = Buffer.from(new Float32Array([1, 2, 5]).buffer);
const input = { name: "x", datatype: "FP32", shape: [3], parameters: { binary_data_size: data.length } };
const head = Buffer.from(JSON.stringify({ inputs: [input], parameters: { binary_data_output: true } }));
const reply = await fetch(`${address}/v2/models/half_plus_two/infer`, {
  method: "POST",
  headers: { "Inference-Header-Content-Length": String(head.length), "Content-Type": "application/octet-stream" },
  body: Buffer.concat([head, data]),
});
const body = Buffer.from(await reply.arrayBuffer());
const raw = body.subarray(Number(reply.headers.get("Inference-Header-Content-Length")));
const y = Array.from({ length: raw.length / 4 }, (_, index) => raw.readFloatLE(4 * index));
console.log(JSON.stringify({ y }));
