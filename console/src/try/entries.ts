// What a user has put into the fields of a form, and the values that it stands for.
import { bytes } from "../format";
import { texts } from "../texts";
import { exampleJson, pictureShape, type Field, type Form, type Kind } from "./fields";
import { digitOf, pixelsToTensor, rangeFor, sizeFor, type Range } from "./pixels";
import { Invalid, parseJson, parseNumbers, single, type Given } from "./values";

export interface Picked {
  name: string;
  type: string;
  size: number;
  base64: string;
  /** A blob: address, to show it. */
  url: string;
  image: ImageBitmap | null;
}

export interface Entry {
  kind: Kind;
  text: string;
  json: string;
  flag: boolean;
  picked: Picked | null;
  range: Range;
  /** How opaque the ink is, from 0 to 255, in a square of `INK_SIDE`. */
  ink: Uint8ClampedArray | null;
}

export const INK_SIDE = 280;
export const LARGEST_FILE = 20_000_000;

export function firstEntry(field: Field, byRow: boolean): Entry {
  const dims = field.dims ?? [];
  const numbers = dims.length === 0 ? (byRow ? "1 2 5" : "1") : Array.from({ length: Math.max(1, dims[0] ?? 1) }, () => "1").join(" ");
  return {
    kind: field.kinds[0] ?? "json",
    text: field.family === "string" ? "" : field.family === "integer" && byRow && dims.length === 0 ? "1 2 3" : numbers,
    json: exampleJson(field, byRow),
    flag: true,
    picked: null,
    range: rangeFor(field.family === "integer"),
    ink: null,
  };
}

/** The values of a field. Raises `Invalid`. */
export function givenBy(entry: Entry, field: Field, form: Form): Given {
  switch (entry.kind) {
    case "numbers":
      return parseNumbers(entry.text, field, form.byRow);
    case "flag":
      return single(entry.flag, field);
    case "text":
      return single(entry.text, field);
    case "json":
      return parseJson(entry.json, form.byRow);
    case "file":
      return single({ b64: picked(entry).base64 }, field);
    case "picture":
      return field.family === "string" ? single({ b64: picked(entry).base64 }, field) : pictured(entry, field);
    case "digit":
      return drawn(entry, field);
  }
}

function picked(entry: Entry): Picked {
  if (entry.picked === null) throw new Invalid(entry.kind === "picture" ? texts.invalid.noPicture : texts.invalid.noFile);
  return entry.picked;
}

function pictured(entry: Entry, field: Field): Given {
  const { image, name } = picked(entry);
  const shape = pictureShape(field.dims ?? []);
  if (image === null || shape === null) throw new Invalid(texts.invalid.notAPicture(name));
  const { width, height } = sizeFor(shape, image.width, image.height);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Invalid(texts.invalid.notAPicture(name));
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return { rows: [pixelsToTensor(data, width, height, shape, entry.range)] };
}

function drawn(entry: Entry, field: Field): Given {
  const shape = pictureShape(field.dims ?? []);
  const digit = entry.ink === null ? null : digitOf(entry.ink, INK_SIDE);
  if (digit === null || shape === null) throw new Invalid(texts.invalid.noDrawing);
  const rgba = Array.from({ length: digit.length * 4 }, (_, index) => digit[index >> 2] ?? 0);
  return { rows: [pixelsToTensor(rgba, 28, 28, shape, entry.range)] };
}

/** Reads a file that was dropped, chosen or taken by the camera. Raises `Invalid` for one that is too large. */
export async function pick(file: File, decode: boolean): Promise<Picked> {
  if (file.size > LARGEST_FILE) throw new Invalid(texts.invalid.largeFile(bytes(file.size), bytes(LARGEST_FILE)));
  const address = await new Promise<string>((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new Invalid(texts.invalid.notAPicture(file.name)));
    reader.readAsDataURL(file);
  });
  const image = decode ? await createImageBitmap(file).catch(() => null) : null;
  if (decode && image === null) throw new Invalid(texts.invalid.notAPicture(file.name));
  const base64 = address.slice(address.indexOf(",") + 1);
  return { name: file.name, type: file.type, size: file.size, base64, url: URL.createObjectURL(file), image };
}
