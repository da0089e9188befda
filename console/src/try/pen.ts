// A pen that the keyboard moves over the drawing area: arrow keys move it, Space sets it down and lifts it. Pure.
import { INK_SIDE } from "./entries";

/** Where the pen is, in the cells that a digit has, and whether it draws. */
export interface Pen {
  x: number;
  y: number;
  down: boolean;
}

export const CELLS = 28;
const CELL = INK_SIDE / CELLS;

const STEPS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** Where it begins: high in the middle, as most digits do. */
export const FIRST_PEN: Pen = { x: 13, y: 6, down: false };

/** The pen after a key; null for a key that is not the pen's. */
export function afterKey(pen: Pen, key: string): Pen | null {
  if (key === " ") return { ...pen, down: !pen.down };
  const step = Object.hasOwn(STEPS, key) ? STEPS[key] : undefined;
  if (step === undefined) return null;
  return { ...pen, x: within(pen.x + step[0]), y: within(pen.y + step[1]) };
}

function within(cell: number): number {
  return Math.min(CELLS - 1, Math.max(0, cell));
}

/** The middle of the pen's cell on the canvas. */
export function pointOf(pen: Pen): { x: number; y: number } {
  return { x: (pen.x + 0.5) * CELL, y: (pen.y + 0.5) * CELL };
}
