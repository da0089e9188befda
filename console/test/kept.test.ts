import { expect, test } from "vitest";
import { keptIn } from "../src/kept";

test("what a browser keeps is there again", () => {
  const stored = new Map<string, string>([["theme", "dark"]]);
  const storage = { getItem: (key: string) => stored.get(key) ?? null, setItem: (key: string, value: string) => void stored.set(key, value) };
  const kept = keptIn(() => storage);
  expect([kept.get("theme"), kept.get("token")]).toEqual(["dark", null]);
  kept.set("token", "t");
  expect([kept.get("token"), stored.get("token")]).toEqual(["t", "t"]);
});

test("a browser that keeps nothing costs no page", () => {
  const forbidden = keptIn(() => {
    throw new Error("SecurityError");
  });
  expect(forbidden.get("token")).toBeNull();
  forbidden.set("token", "t");
  expect(forbidden.get("token")).toBe("t");
  const full = keptIn(() => ({
    getItem: () => null,
    setItem: () => {
      throw new Error("QuotaExceededError");
    },
  }));
  full.set("token", "t");
  expect(full.get("token")).toBe("t");
});
