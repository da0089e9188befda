// Numbers, times and sizes as text; names cut to a length that a page can bear.

/** Shown of a name; all of it is in the element's title up to `LONGEST_TITLE`. */
export const LONGEST_NAME = 80;
export const LONGEST_TITLE = 1000;

/** A number with three significant digits, never in exponent form between 0.001 and 10^15. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 0.001 || size >= 1e15) return value.toExponential(2);
  if (size >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  const shown = unit === 0 || size >= 100 ? String(Math.round(size)) : String(Number(size.toPrecision(2)));
  // 999.6 MB is not "1000 MB".
  if (shown === "1000" && unit < units.length - 1) return `1 ${units[unit + 1]}`;
  return `${shown} ${units[unit]}`;
}

export function milliseconds(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value > 0 && value < 1) return `${number(value * 1000)} µs`;
  return value >= 1000 ? `${number(value / 1000)} s` : `${number(value)} ms`;
}

export function seconds(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return value < 60 ? milliseconds(value * 1000) : duration(value);
}

/** A time span in its two largest units: 2 d 3 h, 5 min 12 s. */
export function duration(value: number): string {
  const whole = Math.max(0, Math.floor(value));
  const parts: [number, string][] = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ");
}

/** A moment as local date and time; `now` decides whether the date is left out. */
export function moment(unix: number | undefined, now: Date = new Date()): string {
  if (unix === undefined || !Number.isFinite(unix)) return "–";
  const date = new Date(unix * 1000);
  if (Number.isNaN(date.getTime())) return "–";
  const clock = clockTime(unix, true);
  if (date.toDateString() === now.toDateString()) return clock;
  const two = (value: number): string => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock}`;
}

export function clockTime(unix: number, withSeconds = false): string {
  const date = new Date(unix * 1000);
  const parts = [date.getHours(), date.getMinutes(), ...(withSeconds ? [date.getSeconds()] : [])];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

export function percent(share: number): string {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "<0.1 %";
  return `${value >= 99.95 && value < 100 ? "99.9" : String(Number(value.toFixed(1)))} %`;
}

/** Cuts text to `most` characters, the last of which is then an ellipsis; no character is cut in two. */
export function cut(text: string, most: number): string {
  if (text.length <= most) return text;
  const kept = text.slice(0, most - 1);
  const halved = /[\ud800-\udbff]$/.test(kept);
  return `${halved ? kept.slice(0, -1) : kept}…`;
}

const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** For places that cannot isolate a text's direction (titles, options, announcements): cut, without marks that turn it. */
export function plain(text: string, most: number): string {
  return cut(text.replace(TURNING, ""), most);
}

/** `DT_FLOAT`, [-1, 3] → `float32 [?, 3]`. */
export function tensorType(dtype: string, shape: number[] | null): string {
  const dims = shape === null ? "of any rank" : `[${shape.map((dim) => (dim < 0 ? "?" : String(dim))).join(", ")}]`;
  return `${dtypeName(dtype)} ${dims}`;
}

const NAMES: Record<string, string> = { float: "float32", double: "float64", half: "float16" };

/** The name that numpy has for a dtype, without a reference's suffix. */
export function dtypeName(dtype: string): string {
  const plain = dtype.replace(/^DT_/i, "").replace(/_REF$/i, "").toLowerCase();
  return Object.hasOwn(NAMES, plain) ? (NAMES[plain] ?? plain) : plain;
}

/** Whether Intl takes it for a language. */
export function isLanguage(name: string): boolean {
  try {
    return Intl.getCanonicalLocales(name).length === 1;
  } catch {
    return false;
  }
}
