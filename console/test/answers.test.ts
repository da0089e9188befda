// From a reply to what is shown of it.
import { describe, expect, it } from "vitest";
import type { Signature } from "../src/api";
import { areShares, fileOf, rowsOf, shownOf } from "../src/try/answers";
import { colorOf } from "../src/try/colors";
import { Whole, type Value } from "../src/try/values";

const outputs = (...names: string[]): Signature => ({ inputs: [], outputs: names.map((name) => ({ name, dtype: "DT_FLOAT", shape: null })) });
const shown = (value: Value, name = "y"): ReturnType<typeof shownOf> => shownOf({ name, value }, [{ name, value }]);

describe("rows", () => {
  it("have the output's name where there is one", () => {
    expect(rowsOf({ predictions: [1, 2] } as unknown as Value, outputs("y"))).toEqual({ rows: [[{ name: "y", value: 1 }], [{ name: "y", value: 2 }]], total: 2 });
  });
  it("are taken apart where there are several outputs", () => {
    const reply = { predictions: [{ a: 1, b: "x" }] } as unknown as Value;
    expect(rowsOf(reply, outputs("a", "b")).rows).toEqual([[{ name: "a", value: 1 }, { name: "b", value: "x" }]]);
  });
  it("are one without rows", () => {
    expect(rowsOf({ outputs: { a: [1], b: [2] } } as unknown as Value, outputs("a", "b")).rows).toHaveLength(1);
  });
  it("are counted, not shown, where they are many", () => {
    const { rows, total } = rowsOf({ predictions: Array.from({ length: 1000 }, () => 1) } as unknown as Value, outputs("y"));
    expect([rows.length, total]).toEqual([50, 1000]);
  });
  it("take bytes for a value, not for an object of outputs", () => {
    expect(rowsOf({ predictions: [{ b64: "AA==" }] } as unknown as Value, undefined).rows).toEqual([[{ name: "", value: { b64: "AA==" } }]]);
  });
});

describe("what is shown", () => {
  it("is a value or a text", () => {
    expect(shown(2.5)).toEqual({ kind: "value", value: 2.5 });
    expect(shown(new Whole("9223372036854775807"))).toEqual({ kind: "value", value: "9223372036854775807" });
    expect(shown("<b>hi</b>")).toEqual({ kind: "text", text: "<b>hi</b>" });
    expect(shown([["text"]])).toEqual({ kind: "text", text: "text" });
  });
  it("is bars for shares of classes, the best first", () => {
    const result = shown([0.1, 0.7, 0.2]);
    expect(result).toMatchObject({ kind: "bars", shares: true, total: 3 });
    if (result.kind === "bars") expect(result.bars.map((bar) => bar.label)).toEqual(["Class 1", "Class 2", "Class 0"]);
  });
  it("is bars with the labels beside the scores", () => {
    const row = [
      { name: "labels", value: ["panda", "<i>"] },
      { name: "scores", value: [0.5, 0.4] },
    ];
    const result = shownOf(row[1] ?? { name: "", value: 0 }, row);
    expect(result).toMatchObject({ kind: "bars", bars: [{ label: "panda", value: 0.5 }, { label: "<i>", value: 0.4 }] });
  });
  it("is at most ten bars of a thousand", () => {
    const result = shown(Array.from({ length: 1000 }, (_, index) => index), "logits");
    expect(result).toMatchObject({ kind: "bars", shares: false, total: 1000 });
    if (result.kind === "bars") expect([result.bars.length, result.bars[0]?.length]).toEqual([10, 1]);
  });
  it("is values where numbers are no scores", () => {
    expect(shown([1.5, 2.5])).toEqual({ kind: "values", values: ["1.5", "2.5"], total: 2 });
    expect(shown([3, 1, 2], "classes")).toMatchObject({ kind: "values" });
    expect(shown([0.5, NaN], "scores")).toMatchObject({ kind: "values" });
  });
  it("is a heat map for a matrix, and nothing pretty for a ragged one", () => {
    expect(shown([[1, 2], [3, 4]])).toEqual({ kind: "heat", cells: [[1, 2], [3, 4]], low: 1, high: 4 });
    expect(shown([[[1], [2]], [[3], [4]]])).toMatchObject({ kind: "heat" });
    expect(shown([[1, 2], [3]])).toMatchObject({ kind: "json" });
    expect(shown([[1, 2], ["a", 3]])).toMatchObject({ kind: "json" });
  });
  it("is a picture for colours", () => {
    const result = shown(Array.from({ length: 8 }, () => Array.from({ length: 8 }, () => [1, 0.5, 0])));
    expect(result).toMatchObject({ kind: "picture", height: 8, width: 8 });
    if (result.kind === "picture") expect([...result.pixels.slice(0, 4)]).toEqual([255, 128, 0, 255]);
  });
  it("is a file for bytes", () => {
    expect(fileOf("iVBORw0KGgo=")).toMatchObject({ kind: "file", type: "image/png", bytes: 8 });
    expect(fileOf("AAECAw==")).toMatchObject({ kind: "file", type: null, bytes: 4 });
    expect(fileOf("<svg>")).toMatchObject({ kind: "text" });
  });
});

it("knows shares", () => {
  expect([[0.5, 0.5], [0, 1, 0], [0.5, 0.4], [1], [-0.5, 1.5], [NaN, 1]].map(areShares)).toEqual([true, true, false, false, false, false]);
});

it("colours shares, whatever they are", () => {
  expect([0, 1, 0.5, NaN, -1].map(colorOf)).toEqual([[68, 1, 84], [253, 231, 37], [33, 145, 140], [128, 128, 128], [68, 1, 84]]);
});
