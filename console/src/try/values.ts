// What was typed or dropped into a field, as values of the request: a list of rows, or one whole tensor.
// Errors say what was expected and what came. Pure.
import { cut } from "../format";
import { texts } from "../texts";
import type { Field, Form } from "./fields";

export type Value = number | string | boolean | null | { b64: string } | Value[] | Whole;

/** A whole number beyond what a double holds, kept as its digits. */
export class Whole {
  constructor(readonly digits: string) {}
}

/** A field that cannot be sent as it is; the text is for the user. */
export class Invalid extends Error {}

export interface Given {
  /** One value for each row; without rows, the tensor is the only one. */
  rows: Value[];
}

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** One number, as JSON can have it. TensorFlow Serving's JSON also has NaN and infinities, as bare words. */
export function numberOf(text: string, integer: boolean): number | Whole {
  if (!NUMBER.test(text)) throw new Invalid(texts.invalid.numbers(integer, shown(text)));
  const value = Number(text);
  if (!integer) {
    if (!Number.isFinite(value)) throw new Invalid(texts.invalid.tooLarge(shown(text)));
    return value;
  }
  if (!Number.isInteger(value)) throw new Invalid(texts.invalid.numbers(true, shown(text)));
  if (Number.isSafeInteger(value)) return value;
  if (!/^[+-]?\d+$/.test(text)) throw new Invalid(texts.invalid.digits(shown(text)));
  return new Whole(text.replace(/^\+/, ""));
}

/** Numbers separated by commas, semicolons or spaces. Brackets around them do no harm. */
export function numbersOf(text: string, integer: boolean): (number | Whole)[] {
  const inner = text.trim().replace(/^\[/, "").replace(/\]$/, "");
  const words = inner.split(/[\s,;]+/).filter((word) => word !== "");
  return words.map((word) => numberOf(word, integer));
}

/** Text of a field of numbers: for single numbers each is a row, for vectors each line is. */
export function parseNumbers(text: string, field: Field, byRow: boolean): Given {
  const integer = field.family === "integer";
  const dims = field.dims ?? [];
  if (text.trim() === "") throw new Invalid(texts.invalid.noNumbers);
  if (dims.length === 0) {
    const all = numbersOf(text, integer);
    if (!byRow && all.length !== 1) throw new Invalid(texts.invalid.oneNumber(all.length));
    return { rows: all };
  }
  const lines = byRow ? text.split("\n").filter((line) => line.trim() !== "") : [text];
  const rows = lines.map((line) => numbersOf(line, integer));
  const length = dims[0] ?? -1;
  // A column of single numbers is typed as simply as they are.
  if (byRow && length === 1 && rows.some((row) => row.length !== 1)) return { rows: rows.flat().map((one) => [one]) };
  for (const row of rows) {
    if (length >= 0 && row.length !== length) throw new Invalid(texts.invalid.length(length, byRow, row.length));
  }
  return { rows };
}

/** JSON of a whole tensor; the rows are its first dimension. */
export function parseJson(text: string, byRow: boolean): Given {
  if (text.trim() === "") throw new Invalid(texts.invalid.noJson);
  let value: Value;
  try {
    value = readJson(text);
  } catch (error) {
    throw new Invalid(texts.invalid.json(cut(String(error instanceof Error ? error.message : error), 200)));
  }
  if (!byRow) return { rows: [value] };
  if (!Array.isArray(value)) throw new Invalid(texts.invalid.list);
  if (value.length === 0) throw new Invalid(texts.invalid.noRows);
  return { rows: value };
}

/** One value of a string or bool, in the shape that the signature has for one: [] or [1]. */
export function single(value: Value, field: Field): Given {
  return { rows: [wrapped(value, field.dims)] };
}

function wrapped(value: Value, dims: number[] | null): Value {
  return dims !== null && dims.length === 1 ? [value] : value;
}

export interface Body {
  signature_name?: string;
  instances?: Value[] | Record<string, Value>[];
  inputs?: Value | Record<string, Value>;
}

/** The request's body. Raises `Invalid` if the fields do not have equally many rows. */
export function bodyOf(form: Form, given: Given[], signature: string): Body {
  const head = signature === "serving_default" ? {} : { signature_name: signature };
  const named = form.fields.map((field, index) => [field.input.name, given[index]?.rows ?? []] as const);
  const only = named.length === 1 ? named[0] : undefined;
  if (!form.byRow) {
    if (only) return { ...head, inputs: only[1][0] ?? null };
    return { ...head, inputs: Object.fromEntries(named.map(([name, rows]) => [name, rows[0] ?? null])) };
  }
  if (only) return { ...head, instances: [...only[1]] };
  const count = Math.max(0, ...named.map(([, rows]) => rows.length));
  for (const [name, rows] of named) {
    // One row is meant for all.
    if (rows.length !== count && rows.length !== 1) throw new Invalid(texts.invalid.rows(shown(name), rows.length, count));
  }
  const row = (index: number): Record<string, Value> =>
    Object.fromEntries(named.map(([name, rows]) => [name, rows[rows.length === 1 ? 0 : index] ?? null]));
  return { ...head, instances: Array.from({ length: count }, (_, index) => row(index)) };
}

const SPECIAL = /"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b|(?<![\w.+-])-?\d{16,}(?![\d.eE])/g;
const MARK = "\u0000number";

/** Reads JSON with what TensorFlow Serving's JSON has beyond it (NaN, Infinity), and keeps long whole numbers. */
export function readJson(text: string): Value {
  const marked = text.replace(SPECIAL, (found) => (found.startsWith('"') ? found : `{${JSON.stringify(MARK)}:"${found}"}`));
  if (marked === text) return JSON.parse(text) as Value;
  return JSON.parse(marked, (_, value: unknown) => {
    if (value === null || typeof value !== "object" || !(MARK in value)) return value;
    const digits = String(value[MARK]);
    const number = Number(digits);
    return Number.isFinite(number) && !Number.isSafeInteger(number) ? new Whole(digits) : number;
  }) as Value;
}

/** Writes JSON that TensorFlow Serving reads: the counterpart of `readJson`. */
export function writeJson(value: unknown): string {
  if (value instanceof Whole) return value.digits;
  if (typeof value === "number") return Number.isFinite(value) ? JSON.stringify(value) : String(value);
  if (Array.isArray(value)) return `[${value.map(writeJson).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value)
      .map(([key, one]) => `${quoted(key)}: ${writeJson(one)}`)
      .join(", ")}}`;
  }
  return typeof value === "string" ? quoted(value) : (JSON.stringify(value) ?? "null");
}

const UNSEEN = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** A JSON string in which nothing is invisible or turns the direction of what follows. */
export function quoted(text: string): string {
  return JSON.stringify(text).replace(UNSEEN, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function shown(text: string): string {
  return `“${cut(text, 40)}”`;
}
