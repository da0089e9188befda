// From a signature to a form.
import { describe, expect, it } from "vitest";
import type { Signature, Tensor } from "../src/api";
import { exampleJson, formOf, kindsOf, pictureShape, type Kind } from "../src/try/fields";

const tensor = (dtype: string, shape: number[] | null, name = "x"): Tensor => ({ name, dtype, shape });
const signature = (...inputs: Tensor[]): Signature => ({ inputs, outputs: [] });
const kindFor = (dtype: string, shape: number[] | null, name = "x"): Kind | undefined => formOf(signature(tensor(dtype, shape, name))).fields[0]?.kinds[0];

describe("what a form has for an input", () => {
  it.each<[string, number[] | null, string, Kind]>([
    ["DT_FLOAT", [-1], "x", "numbers"],
    ["DT_FLOAT", null, "x", "numbers"],
    ["DT_INT32", [-1, 3], "x", "numbers"],
    ["DT_FLOAT", [], "x", "numbers"],
    ["DT_FLOAT", [-1, 4, 4], "x", "json"],
    ["DT_FLOAT", [-1, 10000], "x", "json"],
    ["DT_BOOL", [-1], "x", "flag"],
    ["DT_BOOL", [-1, 3], "x", "json"],
    ["DT_STRING", [-1], "x", "text"],
    ["DT_STRING", [-1, 1], "x", "text"],
    ["DT_STRING", [-1, 7], "x", "json"],
    ["DT_STRING", [-1], "image_bytes", "picture"],
    ["DT_STRING", [-1], "bytes", "picture"],
    ["DT_UINT8", [-1, 224, 224, 3], "x", "picture"],
    ["DT_FLOAT", [-1, 3, 224, 224], "x", "picture"],
    ["DT_FLOAT", [-1, -1, -1, 3], "x", "picture"],
    ["DT_FLOAT", [1, 64, 64, 1], "x", "picture"],
    ["DT_FLOAT", [-1, 28, 28], "x", "digit"],
    ["DT_FLOAT", [-1, 28, 28, 1], "x", "digit"],
    ["DT_FLOAT", [-1, 784], "x", "digit"],
    ["DT_COMPLEX64", [-1], "x", "json"],
    ["constructor", [-1], "x", "json"],
  ])("%s %j %s: %s", (dtype, shape, name, kind) => {
    expect(kindFor(dtype, shape, name)).toBe(kind);
  });

  it("always has JSON, last", () => {
    for (const family of ["float", "integer", "bool", "string", "other"] as const) {
      for (const dims of [null, [], [3], [28, 28], [9, 9, 9, 9, 9]]) expect(kindsOf("x", family, dims).at(-1)).toBe("json");
    }
  });
});

describe("rows", () => {
  it("need an open first dimension everywhere", () => {
    expect(formOf(signature(tensor("DT_FLOAT", [-1, 2]), tensor("DT_FLOAT", [-1]))).byRow).toBe(true);
    expect(formOf(signature(tensor("DT_FLOAT", [-1, 2]), tensor("DT_FLOAT", []))).byRow).toBe(false);
    expect(formOf(signature(tensor("DT_FLOAT", [3, 2]))).byRow).toBe(false);
    expect(formOf(signature()).byRow).toBe(false);
  });
});

describe("pictures", () => {
  it("have their channels last or first, or none", () => {
    expect(pictureShape([224, 200, 3])).toMatchObject({ height: 224, width: 200, channels: 3, channelsFirst: false });
    expect(pictureShape([3, 224, 200])).toMatchObject({ height: 224, width: 200, channels: 3, channelsFirst: true });
    expect(pictureShape([64, 64])).toMatchObject({ channels: 1, bare: true });
    expect(pictureShape([1, 32, 32, 3])).toMatchObject({ height: 32, leading: true });
    expect(pictureShape([784])).toMatchObject({ height: 28, flat: true });
  });
  it.each([[[]], [[3]], [[4, 4]], [[4, 4, 3]], [[100, 100, 7]], [[2, 3, 64, 64]], [[100000, 100000, 3]], [[0, 0, 3]]])("%j is none", (dims) => {
    expect(pictureShape(dims)).toBeNull();
  });
});

describe("an example", () => {
  it("has the tensor's shape", () => {
    const of = (dtype: string, shape: number[] | null): string => {
      const form = formOf(signature(tensor(dtype, shape)));
      const [field] = form.fields;
      return field ? exampleJson(field, form.byRow) : "";
    };
    expect(of("DT_FLOAT", [-1, 2, 2])).toBe("[[[1,1],[1,1]]]");
    expect(of("DT_STRING", [2])).toBe('["text","text"]');
    expect(of("DT_BOOL", [])).toBe("true");
    expect(of("DT_FLOAT", [-1, 1000, 1000])).toBe("");
  });
});
