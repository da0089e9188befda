// Lines to copy: names and values stay text, in every language. Shell and Python are asked themselves.
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import type { Signature } from "../src/api";
import { formOf } from "../src/try/fields";
import { pythonValue, shellQuoted, snippetsOf, urlOf, type Call } from "../src/try/snippets";
import { writeJson, Whole, type Value } from "../src/try/values";

const HOSTILE = [
  "'; rm -rf / #",
  '"; import os; os.system("x") #',
  "`touch x` $(touch y) ${HOME}",
  "</script><script>alert(1)</script>",
  "\u202eevil\u2066",
  "a\nb\\n\t\r",
  "${alert(1)}",
  "\\",
  "'''",
  "😀 \ud800",
  "!history",
  "a/b:predict?x=1#y",
];

const signature: Signature = { inputs: [{ name: "x", dtype: "DT_STRING", shape: [-1] }], outputs: [] };
const call = (change: Partial<Call> = {}): Call => ({
  model: "m",
  version: null,
  signature: "serving_default",
  body: { instances: ["a"] },
  rest: "http://localhost:8501",
  grpc: "localhost:8500",
  needsToken: false,
  file: null,
  ...change,
});

const code = (language: string, of: Call, form = formOf(signature)): string => snippetsOf(of, form).find((one) => one.language === language)?.code ?? "";

/** What a program's standard output is, given `code` as a part of its text. */
function run(program: string, text: string): string {
  const done = spawnSync(program, ["-c", text], { encoding: "utf8", env: { PATH: process.env["PATH"] ?? "", PYTHONIOENCODING: "utf-8" } });
  expect(done.stderr).toBe("");
  return done.stdout;
}

describe("shells", () => {
  it("read what was quoted, and run none of it", () => {
    // Half a character cannot be an argument.
    const texts = HOSTILE.filter((text) => !text.endsWith("\ud800"));
    const printed = run("sh", texts.map((text) => `printf '%s\\0' ${shellQuoted(text)}`).join("\n"));
    expect(printed.split("\0").slice(0, -1)).toEqual(texts);
  });
  it("give curl the body and the address, each as one argument", () => {
    for (const model of HOSTILE) {
      const body = { instances: HOSTILE as Value[] };
      const line = code("curl", call({ model, body })).replace(/^curl /, "printf '%s\\0' ");
      const [url, option, sent] = run("sh", line).split("\0");
      expect(url).toBe(urlOf(call({ model })));
      expect(option).toBe("-d");
      expect(JSON.parse(sent ?? "")).toEqual(body);
    }
  });
  it("take a picture's name for a name", () => {
    const file = { name: "-o; '$(x)'.jpg", type: "image/jpeg" };
    const of = call({ file, body: { instances: [{ b64: "AAAA" }] } });
    const parts = run("sh", code("curl", of).replace(/^curl /, "printf '%s\\0' ")).split("\0");
    expect(parts.slice(1, 5)).toEqual(["--data-binary", `@${file.name}`, "-H", "Content-Type: image/jpeg"]);
    const other = code("curl", { ...of, signature: "top5", body: { signature_name: "top5", instances: [{ b64: "AAAA" }] } });
    expect(other).toContain("base64 < './-o; '\\''$(x)'\\''.jpg'");
    expect(other).toContain('{"signature_name": "top5", "instances": [{"b64": "');
  });
});

describe("Python", () => {
  const value = { text: HOSTILE.slice(0, -3), numbers: [1, 2.5, -3e-7, 1e21], none: null, yes: true, no: false } as unknown as Value;
  it("reads the value that was written", () => {
    const printed = run("python3", `import json; print(json.dumps(${pythonValue(value)}))`);
    expect(JSON.parse(printed)).toEqual(value);
    expect(pythonValue([new Whole("9223372036854775807"), NaN, -Infinity])).toBe('[9223372036854775807, float("NaN"), float("-Infinity")]');
  });
  it("compiles, whatever names and values are", () => {
    const texts = HOSTILE.flatMap((hostile) => {
      const named: Signature = { inputs: [{ name: hostile, dtype: "DT_STRING", shape: [-1] }], outputs: [] };
      const of = call({ model: hostile, signature: hostile, version: 3, needsToken: true, body: { signature_name: hostile, instances: [hostile] } });
      return ["client", "requests", "grpc"].map((language) => code(language, of, formOf(named)));
    });
    const calls = "sorted(n.func.attr for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))";
    const called: unknown = JSON.parse(run("python3", `import ast, json; print(json.dumps([${calls} for text in ${pythonValue(texts)}]))`));
    expect(called).toEqual(HOSTILE.flatMap(() => [["predict"], ["json", "post", "raise_for_status"], ["predict"]]));
  });
  it("has values by input, in columns", () => {
    const two: Signature = { inputs: [{ name: "a", dtype: "DT_FLOAT", shape: [-1] }, { name: "b", dtype: "DT_FLOAT", shape: [-1] }], outputs: [] };
    const of = call({ body: { instances: [{ a: 1, b: 2 }, { a: 3, b: 4 }] } });
    expect(code("client", of, formOf(two))).toBe(
      'from servable import Client\n\ninputs = {"a": [1, 3], "b": [2, 4]}\nwith Client("http://localhost:8501") as client:\n    print(client.predict("m", inputs))',
    );
    expect(code("grpc", of, formOf(two))).toContain('Client("grpc://localhost:8500")');
  });
  it("reads long requests and files from where they are", () => {
    const long = call({ body: { instances: Array.from({ length: 1000 }, () => "abc") } });
    expect(code("client", long)).toContain('inputs = {"x": request["instances"]}');
    expect(code("requests", long)).toContain('json.load(open("request.json"))');
    const file = call({ file: { name: "panda.jpg", type: "image/jpeg" }, body: { instances: [{ b64: "AAAA" }] } });
    expect(code("client", file)).toContain('inputs = {"x": [Path("panda.jpg")]}');
    expect(code("requests", file)).toContain('request = {"instances": [{"b64": picture}]}');
  });
});

describe("grpcurl", () => {
  const parts = (of: Call, form = formOf(signature)): string[] =>
    run("sh", code("grpcurl", of, form).replace(/(^|\n {2})grpcurl /, "$1printf '%s\\0' ")).split("\0").slice(0, -1);
  const sent = (of: Call, named = signature): unknown => JSON.parse(parts(of, formOf(named))[2] ?? "");
  it("has the request as one argument, whatever names and values are", () => {
    for (const model of HOSTILE.filter((text) => !text.endsWith("\ud800"))) {
      const named: Signature = { inputs: [{ name: model, dtype: "DT_STRING", shape: [-1] }], outputs: [] };
      const of = call({ model, signature: model, version: 3, body: { signature_name: model, instances: [model] } });
      const [plain, data, , address, method] = parts(of, formOf(named));
      expect([plain, data, address, method]).toEqual(["-plaintext", "-d", "localhost:8500", "tensorflow.serving.PredictionService/Predict"]);
      const text = { dtype: "DT_STRING", tensor_shape: { dim: [{ size: 1 }] }, string_val: [Buffer.from(model).toString("base64")] };
      expect(sent(of, named)).toEqual({ model_spec: { name: model, version: 3, signature_name: model }, inputs: Object.fromEntries([[model, text]]) });
    }
  });
  it("has the values by their dtype, in columns", () => {
    const input = (name: string, dtype: string, shape: number[]): Signature["inputs"][number] => ({ name, dtype, shape });
    const two: Signature = { inputs: [input("a", "DT_FLOAT", [-1, 2]), input("b", "DT_INT64", [-1])], outputs: [] };
    const of = call({ body: { instances: [{ a: [1, 2.5], b: 1 }, { a: [3, Infinity], b: new Whole("9223372036854775807") }] as never } });
    expect(code("grpcurl", of, formOf(two))).toContain('"int64_val": [1, 9223372036854775807]');
    expect(code("grpcurl", of, formOf(two))).toContain('"dim": [{"size": 2}, {"size": 2}]}, "float_val": [1, 2.5, 3, "Infinity"]');
    const flag: Signature = { inputs: [input("x", "DT_BOOL", [])], outputs: [] };
    expect(sent(call({ body: { inputs: true } }), flag)).toEqual({ model_spec: { name: "m" }, inputs: { x: { dtype: "DT_BOOL", tensor_shape: { dim: [] }, bool_val: [true] } } });
  });
  it("is not there for what it cannot say", () => {
    const half: Signature = { inputs: [{ name: "x", dtype: "DT_HALF", shape: [-1] }], outputs: [] };
    const matrix: Signature = { inputs: [{ name: "x", dtype: "DT_FLOAT", shape: [-1, -1] }], outputs: [] };
    expect(code("grpcurl", call({ body: { instances: [1] } }), formOf(half))).toBe("");
    for (const instances of [[[1], [1, 2]], [1, [2]], [["a"]], [1]] as Value[][]) expect(code("grpcurl", call({ body: { instances } }), formOf(matrix))).toBe("");
    expect(code("grpcurl", call({ body: { instances: Array.from({ length: 1000 }, () => "abc") } }))).toBe("");
    expect(code("grpcurl", call({ grpc: null }))).toBe("");
  });
  it("reads a picture from its file, and asks over TLS where REST does", () => {
    const of = call({ file: { name: "panda.jpg", type: "image/jpeg" }, rest: "https://h:1", needsToken: true, body: { instances: [{ b64: "AAAA" }] } });
    const text = code("grpcurl", of);
    expect(text).toContain('"string_val": ["\'; base64 < \'./panda.jpg\' | tr -d');
    expect(text).toContain('grpcurl \\\n  -H "authorization: Bearer $SERVABLE_TOKEN" -d @');
  });
});

describe("JavaScript", () => {
  it("is text within quotes", () => {
    for (const hostile of HOSTILE) {
      const text = code("javascript", call({ model: hostile, body: { instances: [hostile] } }));
      let asked: unknown[] = [];
      const program = new Function("fetch", "console", `return (async () => {${text}})()`) as (fetch: unknown, console: unknown) => Promise<void>;
      void program((...given: unknown[]) => ((asked = given), Promise.resolve({ json: () => null })), { log: () => null });
      expect(asked[0]).toBe(urlOf(call({ model: hostile })));
      expect(JSON.parse(String((asked[1] as { body: string }).body))).toEqual({ instances: [hostile] });
    }
  });
  it("keeps what JavaScript's numbers do not hold", () => {
    const body = { instances: [new Whole("9223372036854775807")] };
    expect(code("javascript", call({ body }))).toContain(JSON.stringify(writeJson(body)));
  });
});

it("takes the token from where it is kept", () => {
  for (const { code: text } of snippetsOf(call({ needsToken: true }), formOf(signature))) expect(text).toMatch(/SERVABLE_TOKEN|token/);
});
