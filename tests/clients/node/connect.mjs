// gRPC-Web by Connect: node connect.mjs http://HOST:PORT DESCRIPTORS
// The stubs are made of a FileDescriptorSet.
import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

const [address, descriptors] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const transport = createGrpcWebTransport({ baseUrl: address });
const service = (name) => createClient(registry.getService(`tensorflow.serving.${name}`), transport);
const FLOAT = 1;

const predict = (name) =>
  service("PredictionService").predict(
    {
      modelSpec: { name },
      inputs: { x: { dtype: FLOAT, tensorShape: { dim: [{ size: 2n }] }, floatVal: [1, 2] } },
    },
    { timeoutMs: 30000 },
  );

const answer = await predict("half_plus_two");
const code = await predict("none").then(() => 0, (error) => error.code);
const status = await service("ModelService").getModelStatus({ modelSpec: { name: "half_plus_two" } });
const state = status.modelVersionStatus[0].state === 30 ? "AVAILABLE" : status.modelVersionStatus[0].state;
console.log(JSON.stringify({ y: answer.outputs.y.floatVal, code, state }));
