// A chart over time with what it says in words, and as a table.
import type { JSX } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clockTime } from "../format";
import { texts } from "../texts";
import { useTheme } from "../theme";
import { summaryOf, tableOf, type Line } from "../traffic";
import { Scrolling } from "./basics";

const HEIGHT = 180;
/** Seconds that a drawing has at least, whether or not that much is known. */
const SHORTEST = 60;
const COLORS = ["--line-1", "--line-2", "--line-3"];

interface ChartProps {
  title: string;
  t: number[];
  /** How many seconds the drawing has at most. */
  span: number;
  lines: Line[];
  /** How a value is written, at the axis and in words. */
  show: (value: number | null) => string;
}

export function Chart({ title, t, span, lines, show }: ChartProps): JSX.Element {
  const id = useId();
  return (
    <figure class="card chart" role="group" aria-labelledby={id}>
      <figcaption>
        <h2 id={id}>{title}</h2>
        <ul class="legend">
          {lines.map((line, index) => {
            const { now, highest } = summaryOf(line.values);
            return (
              <li key={line.label}>
                <span class={`swatch line-${index + 1}`} aria-hidden="true" />
                {texts.traffic.summary(line.label, show(now), show(highest))}
              </li>
            );
          })}
        </ul>
      </figcaption>
      <Plot t={t} span={span} lines={lines} show={show} />
      <details>
        <summary>{texts.traffic.table}</summary>
        <MinuteTable title={title} t={t} lines={lines} show={show} />
      </details>
    </figure>
  );
}

function MinuteTable({ title, t, lines, show }: Omit<ChartProps, "span">): JSX.Element {
  return (
    <Scrolling label={texts.traffic.tableOf(title)}>
      <table>
        <caption class="unseen">{texts.traffic.tableOf(title)}</caption>
        <thead>
          <tr>
            <th scope="col">{texts.traffic.time}</th>
            {lines.map((line) => (
              <th key={line.label} scope="col" class="right">
                {line.label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {tableOf(t, lines).map((row) => (
            <tr key={row.at}>
              <th scope="row">{clockTime(row.at)}</th>
              {row.values.map((value, index) => (
                <td key={index} class="right">
                  {show(value)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </Scrolling>
  );
}

/** The drawing itself says nothing that the words and the table do not. */
function Plot({ t, span, lines, show }: Omit<ChartProps, "title">): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const { isDark } = useTheme();
  const data: uPlot.AlignedData = [t, ...lines.map((line) => line.values)];
  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const made = new uPlot(optionsOf(element, { span, lines, show }), data, element);
    chart.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: widthOf(element), height: HEIGHT }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
      chart.current = null;
    };
  }, [isDark, span, lines.length]);
  useEffect(() => {
    chart.current?.setData(data);
  }, [t]);
  return <div ref={place} class="plot" aria-hidden="true" />;
}

function widthOf(element: HTMLElement): number {
  return Math.max(120, Math.floor(element.clientWidth));
}

function optionsOf(element: HTMLElement, { span, lines, show }: Pick<ChartProps, "span" | "lines" | "show">): uPlot.Options {
  const style = getComputedStyle(element);
  const color = (name: string): string => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: color("--quiet"),
    font: `12px ${style.fontFamily}`,
    grid: { stroke: color("--rule"), width: 1 },
    ticks: { show: false },
  };
  return {
    width: widthOf(element),
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: "traffic" }, points: { size: 7 } },
    scales: {
      x: { range: (_, first, last) => [Math.min(Math.max(first, last - span), last - SHORTEST), last] },
      y: { range: (_, __, highest) => [0, highest > 0 ? highest * 1.08 : 1] },
    },
    axes: [
      { ...axis, size: 30, values: (_, splits) => splits.map((at) => clockTime(at, (splits[1] ?? 0) - (splits[0] ?? 0) < 60)) },
      { ...axis, size: 64, values: (_, splits) => splits.map((value) => show(value)) },
    ],
    series: [
      {},
      ...lines.map((line, index) => ({
        label: line.label,
        stroke: color(COLORS[index] ?? "--line-1"),
        width: 1.75,
        spanGaps: false,
        points: { size: 4 },
      })),
    ],
    hooks: { setCursor: [(plot) => tell(element, plot, lines, show)] },
  };
}

/** What is under the pointer, beside the drawing. */
function tell(element: HTMLElement, plot: uPlot, lines: Line[], show: ChartProps["show"]): void {
  const at = plot.cursor.idx;
  const time = at === null || at === undefined ? undefined : plot.data[0][at];
  if (time === undefined || at === null || at === undefined) {
    delete element.dataset["told"];
    return;
  }
  const values = lines.map((line, index) => `${line.label} ${show(plot.data[index + 1]?.[at] ?? null)}`);
  element.dataset["told"] = `${clockTime(time, true)}  ${values.join("  ")}`;
}
