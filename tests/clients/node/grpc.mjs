// The Open Inference Protocol over gRPC, with stubs made of the protos: node grpc.mjs HOST:PORT PROTOS
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, protos] = process.argv.slice(2);
const options = { keepCase: true, includeDirs: [protos] };
const definition = loader.loadSync("inference/grpc_service.proto", options);
const { inference } = grpc.loadPackageDefinition(definition);
const client = new inference.GRPCInferenceService(address, grpc.credentials.createInsecure());

const call = (method, request) =>
  new Promise((resolve, reject) =>
    client[method](request, { deadline: Date.now() + 30000 }, (error, answer) => (error ? reject(error) : resolve(answer))),
  );
const infer = (model) =>
  call("ModelInfer", {
    model_name: model,
    inputs: [{ name: "x", datatype: "FP32", shape: [3] }],
    raw_input_contents: [Buffer.from(new Float32Array([1, 2, 5]).buffer)],
  });

const { ready } = await call("ServerReady", {});
const metadata = await call("ModelMetadata", { name: "half_plus_two" });
const answer = await infer("half_plus_two");
const raw = answer.raw_output_contents[0];
const y = Array.from({ length: raw.length / 4 }, (_, index) => raw.readFloatLE(4 * index));
const missing = await infer("none").then(() => "OK", (error) => grpc.status[error.code]);
console.log(JSON.stringify({ ready, inputs: metadata.inputs.map((input) => input.name), y, missing }));
client.close();
