// What was typed, as values; JSON as TensorFlow Serving has it.
import { describe, expect, it } from "vitest";
import type { Signature } from "../src/api";
import { formOf, type Field, type Form } from "../src/try/fields";
import { bodyOf, Invalid, numberOf, parseJson, parseNumbers, readJson, single, Whole, writeJson } from "../src/try/values";

function form(...inputs: [string, string, number[] | null][]): Form {
  const signature: Signature = { inputs: inputs.map(([name, dtype, shape]) => ({ name, dtype, shape })), outputs: [] };
  return formOf(signature);
}

function field(dtype: string, shape: number[] | null): Field {
  const [first] = form(["x", dtype, shape]).fields;
  if (!first) throw new Error("no field");
  return first;
}

describe("numbers", () => {
  it("may be separated in any way", () => {
    expect(parseNumbers("1, 2;3\n 4", field("DT_FLOAT", [-1]), true).rows).toEqual([1, 2, 3, 4]);
    expect(parseNumbers("[1, 2.5, -3e-2]", field("DT_FLOAT", [-1]), true).rows).toEqual([1, 2.5, -0.03]);
  });
  it("are a row a line where a row has several", () => {
    expect(parseNumbers("1 2\n\n3 4\n", field("DT_FLOAT", [-1, 2]), true).rows).toEqual([[1, 2], [3, 4]]);
    expect(parseNumbers("1 2 3", field("DT_FLOAT", [-1, 1]), true).rows).toEqual([[1], [2], [3]]);
  });
  it("are one tensor without rows", () => {
    expect(parseNumbers("1 2\n3", field("DT_FLOAT", [3]), false).rows).toEqual([[1, 2, 3]]);
    expect(parseNumbers("7", field("DT_INT32", []), false).rows).toEqual([7]);
  });
  it.each([
    ["", [-1], "expected numbers, got nothing"],
    ["1 x", [-1], "expected numbers, got “x”"],
    ["0x10", [-1], "expected numbers, got “0x10”"],
    ["1e999", [-1], "“1e999” is too large"],
    ["1 2 3", [-1, 2], "expected 2 numbers in each line, got 3"],
    ["<script>alert(1)</script>", [-1], "expected numbers, got “<script>alert(1)</script>”"],
  ])("%j for %j is refused: %s", (text, shape, why) => {
    expect(() => parseNumbers(text, field("DT_FLOAT", shape), true)).toThrow(new Invalid(why));
  });
  it("are whole where the dtype is, with all their digits", () => {
    expect(numberOf("9007199254740993", true)).toEqual(new Whole("9007199254740993"));
    expect(numberOf("1e3", true)).toBe(1000);
    expect(() => numberOf("1.5", true)).toThrow("whole numbers");
    expect(() => numberOf("1e30", true)).toThrow("digits");
  });
});

describe("JSON", () => {
  it("has what the server's has beyond the standard", () => {
    expect(readJson('{"a": [NaN, -Infinity, Infinity, 1.5], "b": "NaN, \\" Infinity"}')).toEqual({ a: [NaN, -Infinity, Infinity, 1.5], b: 'NaN, " Infinity' });
  });
  it("keeps long whole numbers, and only these", () => {
    expect(readJson("[9223372036854775807, -9223372036854775808]")).toEqual([new Whole("9223372036854775807"), new Whole("-9223372036854775808")]);
    expect(readJson("[0.12345678901234567, 1234567890123456.5, 1e-5]")).toEqual([0.12345678901234567, 1234567890123456.5, 1e-5]);
    expect(writeJson(readJson('{"x": [9223372036854775807, NaN]}'))).toBe('{"x": [9223372036854775807, NaN]}');
  });
  it("is made of what it was read from", () => {
    const text = '{"__proto__": [1, "a\\u0000b", null, true], "constructor": {"b64": "AA=="}}';
    expect(JSON.parse(writeJson(readJson(text)))).toEqual(JSON.parse(text));
  });
  it("shows what is invisible", () => {
    expect(writeJson("a\u202eb\u200bc")).toBe('"a\\u202eb\\u200bc"');
  });
  it("needs a list where there are rows", () => {
    expect(parseJson("[[1], [2]]", true).rows).toEqual([[1], [2]]);
    expect(parseJson("5", false).rows).toEqual([5]);
    expect(() => parseJson("5", true)).toThrow("list");
    expect(() => parseJson("[]", true)).toThrow("row");
    expect(() => parseJson("{", true)).toThrow("expected JSON");
    expect(() => parseJson("[".repeat(100_000), true)).toThrow(Invalid);
  });
});

describe("a body", () => {
  it("is made of bare rows for one input", () => {
    expect(bodyOf(form(["x", "DT_FLOAT", [-1]]), [{ rows: [1, 2] }], "serving_default")).toEqual({ instances: [1, 2] });
  });
  it("names the inputs where there are several, and the signature where it is another", () => {
    const two = form(["a", "DT_FLOAT", [-1]], ["b", "DT_STRING", [-1]]);
    expect(bodyOf(two, [{ rows: [1, 2] }, { rows: ["x"] }], "other")).toEqual({ signature_name: "other", instances: [{ a: 1, b: "x" }, { a: 2, b: "x" }] });
    expect(() => bodyOf(two, [{ rows: [1, 2, 3] }, { rows: ["x", "y"] }], "other")).toThrow("2 rows, and another input has 3");
  });
  it("has whole tensors without rows", () => {
    expect(bodyOf(form(["x", "DT_FLOAT", [2]]), [{ rows: [[1, 2]] }], "serving_default")).toEqual({ inputs: [1, 2] });
    expect(bodyOf(form(), [], "serving_default")).toEqual({ inputs: {} });
  });
  it("has inputs of any name", () => {
    const hostile = form(["__proto__", "DT_FLOAT", [-1]], ["<b>", "DT_FLOAT", [-1]]);
    expect(writeJson(bodyOf(hostile, [{ rows: [1] }, { rows: [2] }], "serving_default"))).toBe('{"instances": [{"__proto__": 1, "<b>": 2}]}');
  });
  it("has a string in the shape of one", () => {
    expect(single("a", field("DT_STRING", [-1])).rows).toEqual(["a"]);
    expect(single("a", field("DT_STRING", [-1, 1])).rows).toEqual([["a"]]);
  });
});
