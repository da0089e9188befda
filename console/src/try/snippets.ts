// The same call as lines to copy: curl, Python, JavaScript, gRPC (Python and grpcurl). Whatever a name or a value contains, it stays
// text within quotes: no shell, no Python and no JavaScript takes a part of it for code. Pure.
import { segment } from "../api";
import type { Form } from "./fields";
import { tensorJson } from "./tensors";
import { quoted, Whole, writeJson, type Body, type Value } from "./values";

export interface Call {
  model: string;
  version: number | null;
  signature: string;
  body: Body;
  /** `http://host:port` of REST, and `host:port` of gRPC; null where there is none. */
  rest: string | null;
  grpc: string | null;
  needsToken: boolean;
  /** The file that the only input, a string, was given as: its bytes can be sent as they are. */
  file: { name: string; type: string } | null;
}

export interface Snippet {
  language: "curl" | "client" | "requests" | "javascript" | "grpc" | "grpcurl";
  title: string;
  code: string;
  /** The lines read the request's body from request.json. */
  needsRequestFile: boolean;
}

/** Longer bodies are read from a file. */
export const LONGEST_BODY = 2000;
export const REQUEST_FILE = "request.json";

export function shellQuoted(text: string): string {
  // Nothing within single quotes has a meaning, and NUL cannot be in an argument at all.
  return `'${text.replaceAll("\0", "").replaceAll("'", "'\\''")}'`;
}

/** A value as Python writes it; JSON's strings are Python's. */
export function pythonValue(value: unknown): string {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (value instanceof Whole) return value.digits;
  if (typeof value === "string") return quoted(value);
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : `float("${value}")`;
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  const entries = Object.entries(value as Record<string, unknown>);
  return `{${entries.map(([key, one]) => `${quoted(key)}: ${pythonValue(one)}`).join(", ")}}`;
}

/** The path of the call, percent-encoded: it has no character that a shell or a string minds. */
export function urlOf(call: Call): string {
  const version = call.version === null ? "" : `/versions/${call.version}`;
  return `${call.rest ?? "http://localhost:8501"}/v1/models/${segment(call.model)}${version}:predict`;
}

export function snippetsOf(call: Call, form: Form): Snippet[] {
  const text = writeJson(call.body);
  const long = text.length > LONGEST_BODY;
  const needsRequestFile = long && call.file === null;
  const snippets: Snippet[] = [
    { language: "curl", title: "curl", code: curlCode(call, text, long), needsRequestFile },
    { language: "client", title: "Python (servable)", code: clientCode(call, form, long, false), needsRequestFile },
    { language: "requests", title: "Python (requests)", code: requestsCode(call, text, long), needsRequestFile },
    { language: "javascript", title: "JavaScript", code: javascriptCode(call, text, long), needsRequestFile },
  ];
  if (call.grpc !== null) {
    snippets.push({ language: "grpc", title: "gRPC", code: clientCode(call, form, long, true), needsRequestFile });
    const code = long && call.file === null ? null : grpcurlCode(call, form, call.grpc);
    if (code !== null) snippets.push({ language: "grpcurl", title: "grpcurl", code, needsRequestFile: false });
  }
  return snippets;
}

function curlCode(call: Call, text: string, long: boolean): string {
  const token = call.needsToken ? ` \\\n  -H "Authorization: Bearer $SERVABLE_TOKEN"` : "";
  const url = shellQuoted(urlOf(call));
  if (call.file !== null && call.signature === "serving_default") {
    const file = shellQuoted(`@${call.file.name}`);
    return `curl ${url} \\\n  --data-binary ${file} \\\n  -H ${shellQuoted(`Content-Type: ${call.file.type}`)}${token}`;
  }
  if (call.file !== null) {
    const [before, after] = aroundFile(call);
    const file = shellQuoted(`./${call.file.name}`);
    return `(printf %s ${shellQuoted(before)}; base64 < ${file} | tr -d '\\n'; printf %s ${shellQuoted(after)}) |\n  curl ${url} -d @-${token}`;
  }
  return `curl ${url}${token} \\\n  -d ${long ? `@${REQUEST_FILE}` : shellQuoted(text)}`;
}

/** Null where the values have no words in JSON that grpcurl reads: ragged lists, dtypes without values of their own. */
function grpcurlCode(call: Call, form: Form, address: string): string | null {
  const request = grpcRequest(call, form);
  if (request === null) return null;
  const plain = call.rest?.startsWith("https:") ? "" : " -plaintext";
  const token = call.needsToken ? ` \\\n  -H "authorization: Bearer $SERVABLE_TOKEN"` : "";
  const to = `${shellQuoted(address)} tensorflow.serving.PredictionService/Predict`;
  if (call.file === null) return `grpcurl${plain}${token} \\\n  -d ${shellQuoted(writeJson(request))} \\\n  ${to}`;
  const [before, after] = aroundMark(request);
  const file = shellQuoted(`./${call.file.name}`);
  return `(printf %s ${shellQuoted(before)}; base64 < ${file} | tr -d '\\n'; printf %s ${shellQuoted(after)}) |\n  grpcurl${plain}${token} -d @ \\\n  ${to}`;
}

/** The PredictRequest in protobuf's JSON; a file's bytes are a mark. */
function grpcRequest(call: Call, form: Form): Record<string, unknown> | null {
  const inputs: Record<string, unknown> = {};
  for (const { input } of form.fields) {
    const value = columnOf(call.file === null ? call.body : (withFile(call.body, MARK) as Body), form, input.name);
    const tensor = tensorJson(input.dtype, value, input.shape?.length);
    if (tensor === null) return null;
    // "__proto__" is a name like any other.
    Object.defineProperty(inputs, input.name, { value: tensor, enumerable: true });
  }
  const spec = {
    name: call.model,
    ...(call.version === null ? {} : { version: call.version }),
    ...(call.signature === "serving_default" ? {} : { signature_name: call.signature }),
  };
  return { model_spec: spec, inputs };
}

const MARK = "@@@";

/** The body before and after the file's base64. */
function aroundFile(call: Call): [string, string] {
  return aroundMark(withFile(call.body, MARK));
}

function aroundMark(value: unknown): [string, string] {
  const mark = MARK;
  const replaced = writeJson(value);
  const at = replaced.lastIndexOf(mark);
  return [replaced.slice(0, at), replaced.slice(at + mark.length)];
}

function withFile(value: unknown, base64: string): unknown {
  if (Array.isArray(value)) return value.map((one) => withFile(one, base64));
  if (value === null || typeof value !== "object" || value instanceof Whole) return value;
  if ("b64" in value && Object.keys(value).length === 1) return { b64: base64 };
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, withFile(one, base64)]));
}

function clientCode(call: Call, form: Form, long: boolean, overGrpc: boolean): string {
  const address = overGrpc ? `grpc://${call.grpc ?? ""}` : (call.rest ?? "http://localhost:8501");
  const lines: string[] = [];
  if (call.needsToken) lines.push("import os");
  if (call.file !== null) lines.push("from pathlib import Path");
  else if (long) lines.push("import json");
  if (usesBytes(call, long)) lines.push("import base64");
  lines.push("", "from servable import Client", "");
  if (long && call.file === null) {
    lines.push(...fromRequestFile(call, form));
  } else {
    lines.push(`inputs = ${inputsCode(call, form)}`);
  }
  const token = call.needsToken ? ', token=os.environ["SERVABLE_TOKEN"]' : "";
  const options = [
    ...(call.signature === "serving_default" ? [] : [`signature=${quoted(call.signature)}`]),
    ...(call.version === null ? [] : [`version=${call.version}`]),
  ].map((option) => `, ${option}`);
  lines.push(
    `with Client(${quoted(address)}${token}) as client:`,
    `    print(client.predict(${quoted(call.model)}, inputs${options.join("")}))`,
  );
  const first = lines.findIndex((line) => line !== "");
  return lines.slice(first).join("\n");
}

function usesBytes(call: Call, long: boolean): boolean {
  return !long && call.file === null && /"b64": "/.test(writeJson(call.body));
}

/** Values by input: with rows, the list of each input's. */
function inputsCode(call: Call, form: Form): string {
  const { file } = call;
  const names = form.fields.map((field) => field.input.name);
  const code = (value: Value): string => {
    if (file === null) return bytesCode(value);
    return form.byRow ? `[Path(${quoted(file.name)})]` : `Path(${quoted(file.name)})`;
  };
  return `{${names.map((name) => `${quoted(name)}: ${code(columnOf(call.body, form, name))}`).join(", ")}}`;
}

/** As `pythonValue`, but bytes are bytes. */
function bytesCode(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(bytesCode).join(", ")}]`;
  if (value !== null && typeof value === "object" && "b64" in value) return `base64.b64decode(${quoted(String(value.b64))})`;
  return pythonValue(value);
}

/** All values of one input. */
function columnOf(body: Body, form: Form, name: string): Value {
  const only = form.fields.length === 1;
  if (body.instances !== undefined) {
    return body.instances.map((row) => (only ? (row as Value) : ((row as Record<string, Value>)[name] ?? null)));
  }
  const inputs = body.inputs ?? null;
  return only ? (inputs as Value) : ((inputs as Record<string, Value>)[name] ?? null);
}

function fromRequestFile(call: Call, form: Form): string[] {
  const only = form.fields.length === 1 ? form.fields[0] : undefined;
  const key = call.body.instances !== undefined ? "instances" : "inputs";
  const read = `request = json.load(open("${REQUEST_FILE}"))`;
  if (only) return [read, `inputs = {${quoted(only.input.name)}: request["${key}"]}`];
  if (key === "inputs") return [read, 'inputs = request["inputs"]'];
  return [read, 'inputs = {name: [row[name] for row in request["instances"]] for name in request["instances"][0]}'];
}

function requestsCode(call: Call, text: string, long: boolean): string {
  const lines: string[] = [];
  if (call.needsToken) lines.push("import os");
  if (call.file !== null) lines.push("import base64");
  else if (long) lines.push("import json");
  lines.push("", "import requests", "");
  if (call.file !== null) {
    lines.push(`with open(${quoted(call.file.name)}, "rb") as file:`, "    picture = base64.b64encode(file.read()).decode()");
    const [before, after] = aroundFile(call);
    lines.push(`request = ${pythonOfParts(before, after)}`);
  } else if (long) {
    lines.push(`request = json.load(open("${REQUEST_FILE}"))`);
  } else {
    lines.push(`request = ${pythonValue(call.body)}`);
  }
  const headers = call.needsToken ? ', headers={"Authorization": f"Bearer {os.environ[\'SERVABLE_TOKEN\']}"}' : "";
  // JSON of the module json has NaN and infinities as the server reads them; that of requests refuses them.
  const bare = !long && /[ [:-](NaN|Infinity)/.test(text.replace(/"(?:[^"\\]|\\.)*"/g, '""'));
  if (bare) lines.splice(lines.indexOf("import requests") - 1, 0, "import json");
  const sent = bare ? "data=json.dumps(request)" : "json=request";
  lines.push(`answer = requests.post(${quoted(urlOf(call))}, ${sent}${headers})`, "answer.raise_for_status()", "print(answer.json())");
  const first = lines.findIndex((line) => line !== "");
  return lines.slice(first).join("\n");
}

/** The body as Python, with the variable `picture` where the base64 is: `before` and `after` are JSON around it. */
function pythonOfParts(before: string, after: string): string {
  const mark = "@@picture@@";
  const code = pythonValue(JSON.parse(`${before}${mark}${after}`));
  const at = code.lastIndexOf(`"${mark}"`);
  return `${code.slice(0, at)}picture${code.slice(at + mark.length + 2)}`;
}

function javascriptCode(call: Call, text: string, long: boolean): string {
  const headers = call.needsToken
    ? '  headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },'
    : '  headers: { "Content-Type": "application/json" },';
  const head = call.needsToken ? ["// const token = …"] : [];
  if (call.file !== null && call.signature === "serving_default") {
    const sent = call.needsToken ? ", Authorization: `Bearer ${token}`" : "";
    return [
      ...head,
      "// `file` is a File, such as that of <input type=\"file\">.",
      `const answer = await fetch(${quoted(urlOf(call))}, {`,
      '  method: "POST",',
      `  headers: { "Content-Type": file.type${sent} },`,
      "  body: file,",
      "});",
      "console.log(await answer.json());",
    ].join("\n");
  }
  const whole = long || call.file !== null;
  return [
    ...head,
    ...(whole ? [`// What ${REQUEST_FILE} contains.`, `const request = await (await fetch("${REQUEST_FILE}")).json();`] : []),
    `const answer = await fetch(${quoted(urlOf(call))}, {`,
    '  method: "POST",',
    headers,
    `  body: ${whole ? "JSON.stringify(request)" : javascriptBody(text)},`,
    "});",
    "console.log(await answer.json());",
  ].join("\n");
}

/** JSON is JavaScript, unless it holds what only the server reads; then it stays text. */
function javascriptBody(text: string): string {
  try {
    JSON.parse(text);
    // Whole numbers beyond 2^53 and "__proto__" would change on the way through an object.
    return /\d{16}|"__proto__"/.test(text) ? quoted(text) : `JSON.stringify(${text})`;
  } catch {
    return quoted(text);
  }
}
