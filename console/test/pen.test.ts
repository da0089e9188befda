// The pen of the keyboard: its keys, and the edges of the area.
import { describe, expect, it } from "vitest";
import { INK_SIDE } from "../src/try/entries";
import { afterKey, CELLS, FIRST_PEN, pointOf, type Pen } from "../src/try/pen";

const after = (keys: string[], pen: Pen = FIRST_PEN): Pen => keys.reduce((now, key) => afterKey(now, key) ?? now, pen);

describe("a pen", () => {
  it("is moved by arrows, set down and lifted by Space", () => {
    expect(after(["ArrowRight", "ArrowDown", " "])).toEqual({ x: 14, y: 7, down: true });
    expect(after([" ", " ", "ArrowLeft", "ArrowUp"])).toEqual({ x: 12, y: 5, down: false });
  });
  it("stays in its area", () => {
    const far = (key: string): Pen => after(Array.from({ length: 50 }, () => key));
    expect([far("ArrowLeft").x, far("ArrowUp").y, far("ArrowRight").x, far("ArrowDown").y]).toEqual([0, 0, CELLS - 1, CELLS - 1]);
    for (const key of ["ArrowLeft", "ArrowRight"]) {
      const { x } = pointOf(far(key));
      expect(x > 0 && x < INK_SIDE).toBe(true);
    }
  });
  it("leaves other keys to the page", () => {
    for (const key of ["Tab", "Enter", "a", "Escape", "__proto__", "constructor"]) expect(afterKey(FIRST_PEN, key)).toBeNull();
  });
});
