// Numbers, times, sizes and names as they are shown.
import { describe, expect, it } from "vitest";
import { bytes, cut, duration, isLanguage, milliseconds, number, percent, plain, seconds, tensorType } from "../src/format";

describe("numbers", () => {
  it("have three digits", () => {
    expect([0, 0.001234, 1.2345, 12.345, 123.45, 12345.6].map(number)).toEqual(["0", "0.00123", "1.23", "12.3", "123", "12,346"]);
  });
  it("are said to be missing, or beyond all bounds", () => {
    expect([null, undefined, NaN, Infinity, -Infinity].map(number)).toEqual(["–", "–", "–", "∞", "−∞"]);
  });
  it("have exponents where they are tiny or huge", () => {
    expect([1e-7, -2.5e20].map(number)).toEqual(["1.00e-7", "-2.50e+20"]);
  });
});

describe("sizes", () => {
  it("have the unit that keeps them short", () => {
    expect([0, 999, 1000, 1.45e6, 123e6, 2.5e9].map(bytes)).toEqual(["0 B", "999 B", "1 KB", "1.4 MB", "123 MB", "2.5 GB"]);
  });
  it("do not say 1000 of a unit", () => {
    expect(bytes(999_600)).toBe("1 MB");
  });
  it("may be unknown", () => {
    expect(bytes(undefined)).toBe("–");
  });
});

describe("latencies and times", () => {
  it("go from µs to seconds", () => {
    expect([0, 0.0421, 0.5, 1, 12.34, 999, 1500].map(milliseconds)).toEqual(["0 ms", "42.1 µs", "500 µs", "1 ms", "12.3 ms", "999 ms", "1.5 s"]);
  });
  it("of percentiles that nothing is known of are a dash", () => {
    expect(milliseconds(null)).toBe("–");
  });
  it("of loads are seconds, or minutes", () => {
    expect([0.25, 3.456, 75].map(seconds)).toEqual(["250 ms", "3.46 s", "1 min 15 s"]);
  });
  it("have two units", () => {
    expect([0, 59.9, 60, 3725, 90061, -5].map(duration)).toEqual(["0 s", "59 s", "1 min", "1 h 2 min", "1 d 1 h", "0 s"]);
  });
});

describe("shares", () => {
  it("are per cent, and neither round up to all nor down to nothing", () => {
    expect([0, 0.0001, 0.1234, 0.99999, 1].map(percent)).toEqual(["0 %", "<0.1 %", "12.3 %", "99.9 %", "100 %"]);
  });
});

describe("names", () => {
  it("are cut, but not within a character", () => {
    expect(cut("a".repeat(10_000), 5)).toBe("aaaa…");
    expect(cut("ab😀d", 4)).toBe("ab…");
    expect(cut("abc", 3)).toBe("abc");
  });
  it("cannot turn the text around them", () => {
    expect(plain("a\u202eb\u2066c\u200fd", 10)).toBe("abcd");
  });
});

describe("types of tensors", () => {
  it("are numpy's names with the shape", () => {
    expect(tensorType("DT_FLOAT", [-1, 224, 224, 3])).toBe("float32 [?, 224, 224, 3]");
    expect(tensorType("DT_HALF", [])).toBe("float16 []");
    expect(tensorType("DT_INT64_REF", null)).toBe("int64 of any rank");
    expect(tensorType("DT_CONSTRUCTOR", [1])).toBe("constructor [1]");
  });
});

describe("a language's name", () => {
  it("is one that Intl takes, not that of Chromium without a locale", () => {
    expect(["en-US", "de", "zh-Hant-TW"].map(isLanguage)).toEqual([true, true, true]);
    expect(["en-US@posix", "C", ""].map(isLanguage)).toEqual([false, false, false]);
  });
});
