// The last hour's columns as what charts, summaries and tables show. Pure.
import type { Column, Traffic } from "./api";

export interface Line {
  label: string;
  values: Column;
}

/** Only the last `seconds`, all columns alike. */
export function since(traffic: Traffic, seconds: number): Traffic {
  const last = traffic.t.at(-1) ?? 0;
  const from = traffic.t.findIndex((at) => at > last - seconds);
  if (from <= 0) return traffic;
  const cutColumns = Object.entries(traffic).map(([key, value]) => [
    key,
    Array.isArray(value) && key !== "models" ? value.slice(from) : value,
  ]);
  return Object.fromEntries(cutColumns) as Traffic;
}

export function perSecond(counts: Column, interval: number): Column {
  return counts.map((count) => (count === null ? null : count / interval));
}

export interface Summary {
  now: number | null;
  highest: number | null;
}

export function summaryOf(values: Column): Summary {
  const there = values.filter((value): value is number => value !== null);
  const last = values.at(-1) ?? null;
  return { now: last, highest: there.length === 0 ? null : there.reduce((most, value) => Math.max(most, value), -Infinity) };
}

export interface TableRow {
  at: number;
  values: Column;
}

/** One row a minute, newest first: the highest of each line within the minute. */
export function tableOf(t: number[], lines: Line[]): TableRow[] {
  const rows = new Map<number, Column>();
  t.forEach((at, index) => {
    const minute = Math.floor(at / 60) * 60;
    const row = rows.get(minute) ?? lines.map(() => null);
    lines.forEach((line, column) => {
      const value = line.values[index] ?? null;
      const before = row[column] ?? null;
      row[column] = value === null ? before : before === null ? value : Math.max(before, value);
    });
    rows.set(minute, row);
  });
  return [...rows].map(([at, values]) => ({ at, values })).reverse();
}
