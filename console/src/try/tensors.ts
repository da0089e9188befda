// A tensor in protobuf's JSON, as grpcurl takes it: TensorProto with the values of its dtype. Pure.
import { dtypeName } from "../format";
import { Whole, type Value } from "./values";

const FIELDS: Record<string, string> = {
  float32: "float_val",
  float64: "double_val",
  int8: "int_val",
  int16: "int_val",
  int32: "int_val",
  uint8: "int_val",
  uint16: "int_val",
  int64: "int64_val",
  uint32: "uint32_val",
  uint64: "uint64_val",
  bool: "bool_val",
  string: "string_val",
};

/** Null if it cannot be written: another dtype, lists of different lengths, elements of another type. rank: if known. */
export function tensorJson(dtype: string, value: Value, rank?: number): Record<string, unknown> | null {
  const field = FIELDS[dtypeName(dtype)];
  const shape = shapeOf(value);
  if (field === undefined || shape === null || (rank !== undefined && rank !== shape.length)) return null;
  const elements = flat(value).map((one) => elementOf(field, one));
  if (elements.some((one) => one === null)) return null;
  return {
    dtype: dtype.replace(/_REF$/, ""),
    tensor_shape: { dim: shape.map((size) => ({ size })) },
    [field]: elements,
  };
}

/** The lengths of lists in lists; null if those beside each other differ. */
function shapeOf(value: Value): number[] | null {
  if (!Array.isArray(value)) return [];
  const inner = value.map(shapeOf);
  const first = inner[0] ?? [];
  const alike = inner.every((one) => one !== null && one.join() === first?.join());
  return alike && first !== null ? [value.length, ...first] : null;
}

function flat(value: Value): Value[] {
  return Array.isArray(value) ? value.flatMap(flat) : [value];
}

function elementOf(field: string, value: Value): unknown {
  if (field === "string_val") {
    if (typeof value === "string") return base64Of(value);
    return value !== null && typeof value === "object" && "b64" in value ? value.b64 : null;
  }
  if (field === "bool_val") return typeof value === "boolean" ? value : null;
  if (value instanceof Whole) return value;
  if (typeof value !== "number") return null;
  // Words that JSON has no numbers for.
  return Number.isFinite(value) ? value : String(value);
}

function base64Of(text: string): string {
  const bytes = new TextEncoder().encode(text);
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
