// The fields of the form: numbers, text, JSON, files and pictures, the camera, a drawing.
import type { JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { bytes, cut, plain, tensorType } from "../format";
import { announce, Name } from "../parts/basics";
import { texts } from "../texts";
import { INK_SIDE, pick, type Entry } from "./entries";
import { pictureShape, type Field, type Form, type Kind } from "./fields";
import { afterKey, FIRST_PEN, pointOf, type Pen } from "./pen";
import { rangesFor, type Range } from "./pixels";

interface FieldProps {
  field: Field;
  form: Form;
  entry: Entry;
  /** Why the entry cannot be sent; shown once the form was submitted. */
  problem: string | undefined;
  onChange: (change: Partial<Entry>) => void;
}

export function FieldInput(props: FieldProps): JSX.Element {
  const { field, entry, problem, onChange } = props;
  const id = useId();
  const hint = hintOf(entry.kind, props);
  return (
    <fieldset class={problem === undefined ? "input" : "input wrong"} aria-describedby={`${id}-hint`}>
      <legend>
        <Name text={field.input.name} most={60} /> <span class="code quiet">{tensorType(field.input.dtype, field.input.shape)}</span>
      </legend>
      {field.kinds.length > 1 && (
        <div class="segments" role="radiogroup" aria-label={texts.try.as(plain(field.input.name, 60))}>
          {field.kinds.map((kind) => (
            <label key={kind}>
              <input type="radio" name={`${id}-kind`} checked={entry.kind === kind} onChange={() => onChange({ kind })} />
              <span>{texts.try.kinds[kind]}</span>
            </label>
          ))}
        </div>
      )}
      <Entering {...props} />
      <p id={`${id}-hint`} class="hint">
        {hint}
      </p>
      {problem !== undefined && (
        <p class="problem" dir="auto" role="alert">
          {problem}
        </p>
      )}
    </fieldset>
  );
}

function hintOf(kind: Kind, { field, form }: FieldProps): string {
  const hints = texts.try.hints;
  const dims = field.dims ?? [];
  switch (kind) {
    case "numbers":
      return dims.length === 0 ? (form.byRow ? hints.numberEach : hints.number) : hints.line(dims[0] ?? -1, form.byRow);
    case "json":
      return form.byRow ? hints.jsonRows : hints.jsonWhole;
    case "picture": {
      if (field.family === "string") return hints.pictureBytes;
      const shape = pictureShape(dims);
      const side = (length: number): string => (length < 0 ? hints.asLarge : String(length));
      return shape === null ? "" : hints.picturePixels(side(shape.width), side(shape.height), shape.channels);
    }
    case "digit":
      return hints.digit;
    case "file":
      return hints.files;
    case "flag":
    case "text":
      return "";
  }
}

function Entering(props: FieldProps): JSX.Element {
  const { field, entry, onChange } = props;
  const label = plain(field.input.name, 60);
  switch (entry.kind) {
    case "numbers":
      return <Lines label={label} text={entry.text} rows={field.dims?.length === 0 ? 1 : 3} onText={(text) => onChange({ text })} code />;
    case "text":
      return <Lines label={label} text={entry.text} rows={4} onText={(text) => onChange({ text })} />;
    case "json":
      return <Lines label={label} text={entry.json} rows={6} onText={(json) => onChange({ json })} code />;
    case "flag":
      return (
        <label class="check">
          <input type="checkbox" checked={entry.flag} onChange={(event) => onChange({ flag: event.currentTarget.checked })} />
          {texts.try.flag}
        </label>
      );
    case "file":
    case "picture":
      return (
        <>
          <FilePicker {...props} />
          {entry.kind === "picture" && field.family !== "string" && <RangeChoice {...props} />}
        </>
      );
    case "digit":
      return (
        <>
          <Drawing {...props} />
          <RangeChoice {...props} />
        </>
      );
  }
}

function Lines({ label, text, rows, onText, code = false }: { label: string; text: string; rows: number; onText: (text: string) => void; code?: boolean }): JSX.Element {
  return (
    <textarea
      aria-label={label}
      class={code ? "code" : ""}
      rows={rows}
      dir={code ? "ltr" : "auto"}
      spellcheck={false}
      value={text}
      onInput={(event) => onText(event.currentTarget.value)}
    />
  );
}

function RangeChoice({ field, entry, onChange }: FieldProps): JSX.Element | null {
  const ranges = rangesFor(field.family === "integer");
  if (ranges.length < 2) return null;
  return (
    <label class="field inline">
      <span>{texts.try.range}</span>
      <select value={entry.range} onChange={(event) => onChange({ range: event.currentTarget.value as Range })}>
        {ranges.map((range) => (
          <option key={range} value={range}>
            {texts.try.ranges[range]}
          </option>
        ))}
      </select>
    </label>
  );
}

function FilePicker({ field, entry, onChange }: FieldProps): JSX.Element {
  const input = useRef<HTMLInputElement>(null);
  const [over, setOver] = useState(false);
  const [trouble, setTrouble] = useState("");
  const [camera, setCamera] = useState(false);
  const pictures = entry.kind === "picture";
  const take = async (file: File | null | undefined): Promise<void> => {
    if (!file) return;
    setCamera(false);
    try {
      const picked = await pick(file, pictures && field.family !== "string");
      if (entry.picked) URL.revokeObjectURL(entry.picked.url);
      onChange({ picked });
      setTrouble("");
    } catch (error) {
      setTrouble(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <div
      class={over ? "drop over" : "drop"}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        void take(event.dataTransfer?.files[0]);
      }}
    >
      {entry.picked && pictures && !camera && <img class="preview" src={entry.picked.url} alt={texts.try.preview} />}
      {camera && <Camera onTaken={(file) => void take(file)} onTrouble={setTrouble} />}
      {entry.picked && (
        <p class="quiet">
          <bdi>{texts.try.chosen(cut(entry.picked.name, 60), bytes(entry.picked.size))}</bdi>
        </p>
      )}
      <p class="choices">
        <span class="quiet">{pictures ? texts.try.dropPicture : texts.try.drop}</span>
        <button type="button" onClick={() => input.current?.click()}>
          {texts.try.browse}
        </button>
        {pictures && navigator.mediaDevices !== undefined && (
          <button type="button" aria-pressed={camera} onClick={() => setCamera(!camera)}>
            {texts.try.camera}
          </button>
        )}
      </p>
      {pictures && navigator.mediaDevices === undefined && <p class="hint">{texts.try.noCamera}</p>}
      {trouble !== "" && (
        <p class="problem" role="alert" dir="auto">
          {cut(trouble, 300)}
        </p>
      )}
      <input
        ref={input}
        type="file"
        class="unseen"
        tabIndex={-1}
        aria-label={`${texts.try.kinds[entry.kind]} ${plain(field.input.name, 60)}`}
        accept={pictures ? "image/*" : undefined}
        onChange={(event) => {
          void take(event.currentTarget.files?.[0]);
          // The same file again is a choice, too.
          event.currentTarget.value = "";
        }}
      />
    </div>
  );
}

function Camera({ onTaken, onTrouble }: { onTaken: (file: File) => void; onTrouble: (text: string) => void }): JSX.Element {
  const video = useRef<HTMLVideoElement>(null);
  const [ready, setReady] = useState(false);
  useEffect(() => {
    let stream: MediaStream | null = null;
    let ended = false;
    const stop = (): void => stream?.getTracks().forEach((track) => track.stop());
    navigator.mediaDevices
      .getUserMedia({ video: { facingMode: "environment" } })
      .then((opened) => {
        stream = opened;
        if (ended) stop();
        else if (video.current) video.current.srcObject = opened;
      })
      .catch((error: unknown) => onTrouble(texts.try.cameraFailed(error instanceof Error ? error.message : String(error))));
    return () => {
      ended = true;
      stop();
    };
  }, []);
  const take = (): void => {
    const element = video.current;
    if (!element || element.videoWidth === 0) return;
    const canvas = document.createElement("canvas");
    canvas.width = element.videoWidth;
    canvas.height = element.videoHeight;
    canvas.getContext("2d")?.drawImage(element, 0, 0);
    canvas.toBlob((taken) => taken && onTaken(new File([taken], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92);
  };
  return (
    <div class="camera">
      <video ref={video} autoPlay muted playsInline class="preview" aria-label={texts.try.camera} onLoadedData={() => setReady(true)} />
      <button type="button" class="main" disabled={!ready} onClick={take}>
        {texts.try.take}
      </button>
    </div>
  );
}

function Drawing({ entry, onChange }: FieldProps): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const last = useRef<Point | null>(null);
  // There once the keyboard is used; it is seen while the area has the focus.
  const [pen, setPen] = useState<Pen>();
  // It is read after each line, also after each step of the pen.
  const paper = (): CanvasRenderingContext2D | null | undefined => canvas.current?.getContext("2d", { willReadFrequently: true });
  useEffect(() => {
    // What was drawn is there again after the way of giving it was changed to and fro.
    const context = paper();
    if (!context || entry.ink === null) return;
    const pixels = context.createImageData(INK_SIDE, INK_SIDE);
    entry.ink.forEach((ink, index) => pixels.data.set([255, 255, 255, ink], index * 4));
    context.putImageData(pixels, 0, 0);
  }, []);
  const at = (event: PointerEvent): Point => {
    const box = canvas.current?.getBoundingClientRect();
    if (!box) return { x: 0, y: 0 };
    return { x: ((event.clientX - box.left) * INK_SIDE) / box.width, y: ((event.clientY - box.top) * INK_SIDE) / box.height };
  };
  const draw = (to: Point): void => {
    const context = paper();
    if (context && last.current !== null) drawLine(context, last.current, to);
    if (last.current !== null) last.current = to;
  };
  const end = (): void => {
    const context = paper();
    if (!context || last.current === null) return;
    last.current = null;
    const { data } = context.getImageData(0, 0, INK_SIDE, INK_SIDE);
    onChange({ ink: Uint8ClampedArray.from({ length: INK_SIDE * INK_SIDE }, (_, index) => data[index * 4 + 3] ?? 0) });
  };
  const press = (event: KeyboardEvent): void => {
    const before = pen ?? FIRST_PEN;
    const after = event.ctrlKey || event.altKey || event.metaKey ? null : afterKey(before, event.key);
    if (after === null) return;
    event.preventDefault();
    if (after.down) {
      last.current = pointOf(before);
      draw(pointOf(after));
      end();
    }
    announce(texts.try.pen(after.down, after.x + 1, after.y + 1), false);
    setPen(after);
  };
  return (
    <div class="drawing">
      <div class="drawing-area">
        <canvas
          ref={canvas}
          width={INK_SIDE}
          height={INK_SIDE}
          // So that screen readers leave the arrow keys to it.
          role="application"
          tabIndex={0}
          aria-label={`${texts.try.canvas}: ${entry.ink === null ? texts.try.canvasIs.blank : texts.try.canvasIs.drawn}`}
          onKeyDown={press}
          onPointerDown={(event) => {
            event.currentTarget.setPointerCapture(event.pointerId);
            last.current = at(event);
            draw(last.current);
          }}
          onPointerMove={(event) => draw(at(event))}
          onPointerUp={end}
          onPointerCancel={end}
        />
        {pen !== undefined && <span class={pen.down ? "pen down" : "pen"} aria-hidden="true" style={placeOf(pen)} />}
      </div>
      <button
        type="button"
        onClick={() => {
          paper()?.clearRect(0, 0, INK_SIDE, INK_SIDE);
          setPen(undefined);
          onChange({ ink: null });
        }}
      >
        {texts.try.clear}
      </button>
    </div>
  );
}

interface Point {
  x: number;
  y: number;
}

function drawLine(context: CanvasRenderingContext2D, from: Point, to: Point): void {
  context.strokeStyle = "#fff";
  context.lineWidth = INK_SIDE / 13;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(from.x, from.y);
  // A line to where it begins is not drawn by every browser.
  context.lineTo(to.x + 0.01, to.y);
  context.stroke();
}

function placeOf(pen: Pen): { left: string; top: string } {
  const { x, y } = pointOf(pen);
  const percent = (length: number): string => `${((100 * length) / INK_SIDE).toFixed(2)}%`;
  return { left: percent(x), top: percent(y) };
}
