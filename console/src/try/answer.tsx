// The answer as values, bars, heat maps, pictures, text; and all of it as JSON.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Signature } from "../api";
import * as format from "../format";
import { CopyButton, Name, Prose } from "../parts/basics";
import { texts } from "../texts";
import { colorOf } from "./colors";
import { rowsOf, shownOf, type Bar, type Output, type Row, type Shown } from "./answers";
import { writeJson, type Value } from "./values";

const LONGEST_JSON = 20_000;

export function AnswerView({ reply, text, signature }: { reply: Value; text: string; signature: Signature }): JSX.Element {
  const { rows, total } = rowsOf(reply, signature);
  return (
    <>
      {rows.length < total && <p class="quiet">{texts.try.moreRows(rows.length, total)}</p>}
      {onlyValues(rows) ? <ValueTable rows={rows} /> : rows.map((row, index) => <RowView key={index} row={row} index={index} count={rows.length} />)}
      <details>
        <summary>{texts.try.raw}</summary>
        <div class="code-block">
          <CopyButton text={text} />
          <pre tabIndex={0} dir="ltr" aria-label={texts.try.raw}>
            {format.cut(text, LONGEST_JSON)}
          </pre>
        </div>
      </details>
    </>
  );
}

/** Rows of plain values are easier to read as one table. */
function onlyValues(rows: Row[]): boolean {
  return rows.length > 1 && rows.every((row) => row.length > 0 && row.every((output) => ["value", "text"].includes(shownOf(output, row).kind)));
}

function ValueTable({ rows }: { rows: Row[] }): JSX.Element {
  const names = rows[0]?.map((output) => output.name) ?? [];
  return (
    <table class="answers">
      <caption class="unseen">{texts.try.answer}</caption>
      <thead>
        <tr>
          <th scope="col" class="narrow">
            #
          </th>
          {names.map((name) => (
            <th key={name} scope="col">
              <Name text={name || texts.try.output} most={40} />
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row, index) => (
          <tr key={index}>
            <th scope="row" class="quiet narrow">
              {index + 1}
            </th>
            {names.map((name) => {
              const output = row.find((one) => one.name === name);
              return <td key={name}>{output && <ShownView shown={shownOf(output, row)} output={output} />}</td>;
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function RowView({ row, index, count }: { row: Row; index: number; count: number }): JSX.Element {
  return (
    <div class="row">
      {count > 1 && <h3 class="row-title">{texts.try.row(index + 1)}</h3>}
      {byInterest(row).map(({ output, shown }) => (
        <div key={output.name} class="output">
          {output.name !== "" && (
            <h3>
              <Name text={output.name} most={60} />
            </h3>
          )}
          <ShownView shown={shown} output={output} />
        </div>
      ))}
    </div>
  );
}

/** What says most comes first. */
function byInterest(row: Row): { output: Output; shown: Shown }[] {
  const rank = ({ kind }: Shown): number => (kind === "bars" ? 0 : kind === "picture" || kind === "heat" || kind === "file" ? 1 : 2);
  return row.map((output) => ({ output, shown: shownOf(output, row) })).sort((a, b) => rank(a.shown) - rank(b.shown));
}

function ShownView({ shown, output }: { shown: Shown; output: Output }): JSX.Element {
  switch (shown.kind) {
    case "value":
      return <span class="value">{String(shown.value)}</span>;
    case "text":
      return <Prose text={shown.text} />;
    case "values":
      return (
        <>
          <p class="values code">{shown.values.map((value) => format.cut(value, 200)).join(", ")}</p>
          {shown.values.length < shown.total && <p class="quiet">{texts.try.firstValues(shown.values.length, shown.total)}</p>}
        </>
      );
    case "bars":
      return <Bars bars={shown.bars} total={shown.total} shares={shown.shares} />;
    case "heat":
      return <Heat cells={shown.cells} low={shown.low} high={shown.high} />;
    case "picture":
      return <Pixels {...shown} />;
    case "file":
      return <FileView {...shown} />;
    case "json":
      return <pre tabIndex={0} aria-label={output.name || texts.try.output}>{format.cut(writeJson(shown.value), 4000)}</pre>;
  }
}

function Bars({ bars, total, shares }: { bars: Bar[]; total: number; shares: boolean }): JSX.Element {
  return (
    <>
      <ol class="bars">
        {bars.map((bar, index) => (
          <li key={index} class={index === 0 ? "first" : ""}>
            <Name text={bar.label} most={60} />
            <span class="bar" aria-hidden="true">
              <span style={{ width: `${(bar.length * 100).toFixed(2)}%` }} />
            </span>
            <span class="amount">{shares ? format.percent(bar.value) : format.number(bar.value)}</span>
          </li>
        ))}
      </ol>
      {bars.length < total && <p class="quiet">{texts.try.best(bars.length, total)}</p>}
    </>
  );
}

function Heat({ cells, low, high }: { cells: number[][]; low: number; high: number }): JSX.Element {
  const height = cells.length;
  const width = cells[0]?.length ?? 0;
  const pixels = new Uint8ClampedArray(width * height * 4);
  cells.flat().forEach((value, index) => {
    const [r, g, b] = colorOf(high > low ? (value - low) / (high - low) : 0.5);
    pixels.set([r, g, b, 255], index * 4);
  });
  const label = texts.try.heat(height, width, format.number(low), format.number(high));
  return (
    <figure class="heat">
      <Canvas width={width} height={height} pixels={pixels} label={label} />
      <figcaption class="quiet">{label}</figcaption>
    </figure>
  );
}

function Pixels({ width, height, pixels }: { width: number; height: number; pixels: Uint8ClampedArray<ArrayBuffer> }): JSX.Element {
  const label = texts.try.picture(height, width);
  return (
    <figure class="heat">
      <Canvas width={width} height={height} pixels={pixels} label={label} />
      <figcaption class="quiet">{label}</figcaption>
    </figure>
  );
}

function Canvas({ width, height, pixels, label }: { width: number; height: number; pixels: Uint8ClampedArray<ArrayBuffer>; label: string }): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    canvas.current?.getContext("2d")?.putImageData(new ImageData(pixels, width, height), 0, 0);
  }, [pixels, width, height]);
  // Small ones are enlarged to what can be seen.
  const scale = Math.max(1, Math.min(24, Math.floor(336 / Math.max(width, height))));
  return <canvas ref={canvas} width={width} height={height} role="img" aria-label={label} style={{ width: `${width * scale}px` }} />;
}

function FileView({ type, base64, bytes }: { type: string | null; base64: string; bytes: number }): JSX.Element {
  const size = texts.try.file(format.bytes(bytes));
  const tooLarge = bytes > 5_000_000;
  if (type !== null && !tooLarge) return <img class="preview" src={`data:${type};base64,${base64}`} alt={size} />;
  return <p class="value">{size}</p>;
}
