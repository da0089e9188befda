// gRPC-Web by Google's library: node web.mjs http://HOST:PORT text|binary REQUEST OTHER
// The messages are serialized, in base64; OTHER is for a model that is not there.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
globalThis.XMLHttpRequest = require("xhr2");
const web = require("grpc-web");

const [address, format, request, other] = process.argv.slice(2);
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const same = (message) => message;
const path = "/tensorflow.serving.PredictionService/Predict";
const method = new web.MethodDescriptor(path, web.MethodType.UNARY, Uint8Array, Uint8Array, same, same);
const client = new web.GrpcWebClientBase({ format });
const call = (message) =>
  new Promise((resolve, reject) =>
    client.rpcCall(address + path, bytes(message), {}, method, (error, answer) => (error ? reject(error) : resolve(answer))),
  );

const answer = await call(request);
const refused = await call(other).then(() => ({}), (error) => error);
console.log(
  JSON.stringify({ answer: Buffer.from(answer).toString("base64"), code: refused.code, text: refused.message }),
);
