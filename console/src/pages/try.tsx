// A form made from a model's signature, its answer, and the same call as code.
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { paths, type Model, type ServerInfo, type Signature, type Version } from "../api";
import { text as ask, token, usePolled } from "../connection";
import * as format from "../format";
import { announce, Badge, Empty, Lead, Name, Trouble, Waiting } from "../parts/basics";
import { go, hashOf } from "../router";
import { texts } from "../texts";
import { AnswerView } from "../try/answer";
import { Code } from "../try/code";
import { firstEntry, givenBy, type Entry } from "../try/entries";
import { formOf, type Form } from "../try/fields";
import { FieldInput } from "../try/inputs";
import { snippetsOf, type Call } from "../try/snippets";
import { bodyOf, Invalid, readJson, writeJson, type Body, type Value } from "../try/values";
import { Search, useModels } from "./models";

const EVERY_MS = 5000;
const MOST_CHOICES = 20;
const MOST_SIGNATURES = 200;

export function TryPage({ name, server }: { name: string | null; server: ServerInfo | undefined }): JSX.Element {
  return name === null ? <Choice /> : <Trying name={name} server={server} />;
}

function Choice(): JSX.Element {
  const paged = useModels(MOST_CHOICES);
  const { list, error, search } = paged;
  const only = list?.total === 1 && search === "" ? list.models[0] : undefined;
  useEffect(() => {
    if (only) location.replace(hashOf({ page: "try", name: only.name }));
  }, [only?.name]);
  return (
    <>
      <Lead title={texts.pages.try} lead={texts.try.lead}>
        <Search paged={paged} label={texts.models.search} />
      </Lead>
      <h2>{texts.try.choose}</h2>
      {error && <Trouble error={error} />}
      {list === undefined && !error && <Waiting />}
      {list?.total === 0 && <Empty title={search === "" ? texts.models.empty : texts.models.nothingFound(format.plain(search, 60))} />}
      {list && list.models.length > 0 && (
        <ul class="choices-list">
          {list.models.map((model) => (
            <li key={model.name}>
              <a href={hashOf({ page: "try", name: model.name })}>
                <Name text={model.name} most={60} />
              </a>
              <Badge state={model.standing} />
            </li>
          ))}
        </ul>
      )}
      {list && list.total > MOST_CHOICES && <p class="quiet">{texts.models.more(list.total - list.models.length)}</p>}
    </>
  );
}

function Trying({ name, server }: { name: string; server: ServerInfo | undefined }): JSX.Element {
  const { data: model, error } = usePolled<Model>(paths.model(name), EVERY_MS);
  return (
    <>
      <p class="back">
        <a href="#/try">← {texts.try.another}</a>
      </p>
      <Lead title={<Name text={name} />} lead={texts.try.lead} />
      {error && (error.status === 404 ? <Empty title={texts.model.gone} /> : <Trouble error={error} />)}
      {!model && !error && <Waiting />}
      {model && <Chosen model={model} server={server} />}
    </>
  );
}

function Chosen({ model, server }: { model: Model; server: ServerInfo | undefined }): JSX.Element {
  const [chosen, setChosen] = useState<number | null>(null);
  const [signature, setSignature] = useState("serving_default");
  const available = model.versions.filter((one) => one.state === "AVAILABLE");
  const version: Version | undefined = available.find((one) => one.version === chosen) ?? available[0];
  if (version === undefined) {
    return (
      <Empty title={texts.try.notAvailable}>
        <button type="button" onClick={() => go({ page: "model", name: model.name })}>
          {texts.try.seeModel}
        </button>
      </Empty>
    );
  }
  const names = Object.keys(version.signatures ?? {});
  const shown = names.includes(signature) ? signature : names.includes("serving_default") ? "serving_default" : names[0];
  const asked = available.some((one) => one.version === chosen) ? chosen : null;
  return (
    <>
      <div class="selects">
        <label class="field">
          <span>{texts.try.version}</span>
          <select value={String(asked ?? "")} onChange={(event) => setChosen(event.currentTarget.value === "" ? null : Number(event.currentTarget.value))}>
            <option value="">{texts.try.newest(available[0]?.version)}</option>
            {available.map((one) => (
              <option key={one.version} value={String(one.version)}>
                {one.version}
              </option>
            ))}
          </select>
        </label>
        <label class="field">
          <span>{texts.try.signature}</span>
          <select value={String(names.indexOf(shown ?? ""))} onChange={(event) => setSignature(names[Number(event.currentTarget.value)] ?? "")}>
            {names.slice(0, MOST_SIGNATURES).map((one, index) => (
              <option key={one} value={String(index)} dir="auto">
                {format.plain(one, 60)}
              </option>
            ))}
          </select>
        </label>
      </div>
      {shown === undefined || version.signatures?.[shown] === undefined ? (
        <Empty title={texts.try.noSignatures} />
      ) : (
        <Asking
          key={`${asked ?? ""} ${shown} ${JSON.stringify(version.signatures[shown].inputs)}`}
          model={model.name}
          version={asked}
          name={shown}
          signature={version.signatures[shown]}
          server={server}
        />
      )}
    </>
  );
}

interface AskingProps {
  model: string;
  version: number | null;
  name: string;
  signature: Signature;
  server: ServerInfo | undefined;
}

type Outcome = { reply: Value; text: string; took: number } | { error: Error };

function Asking({ model, version, name, signature, server }: AskingProps): JSX.Element {
  const form = useMemo(() => formOf(signature), []);
  const [entries, setEntries] = useState<Entry[]>(() => form.fields.map((field) => firstEntry(field, form.byRow)));
  const [tried, setTried] = useState(false);
  const [asking, setAsking] = useState(false);
  const [outcome, setOutcome] = useState<Outcome>();
  const filled = useMemo(() => fill(form, entries, name), [entries]);
  const answers = useRef<HTMLElement>(null);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setTried(true);
    if (filled.body === undefined || asking) return;
    setAsking(true);
    const begun = performance.now();
    try {
      const text = await ask(paths.predict(model, version), { method: "POST", body: writeJson(filled.body) });
      const took = performance.now() - begun;
      setOutcome({ reply: readJson(text), text, took });
      announce(texts.try.tookMs(format.milliseconds(took)), false);
    } catch (error) {
      setOutcome({ error: error instanceof Error ? error : new Error(String(error)) });
    }
    setAsking(false);
    // On narrow screens the answer is below.
    answers.current?.scrollIntoView({ block: "nearest" });
  };
  return (
    <>
      <div class="halves">
        <form
          class="card"
          noValidate
          aria-labelledby="inputs"
          onSubmit={(event) => void submit(event)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void submit(event);
          }}
        >
          <h2 id="inputs">{texts.try.inputs}</h2>
          {form.fields.length === 0 && <p class="quiet">{texts.try.noInputs}</p>}
          {form.fields.map((field, index) => {
            const entry = entries[index];
            if (entry === undefined) return null;
            return (
              <FieldInput
                key={field.input.name}
                field={field}
                form={form}
                entry={entry}
                problem={tried ? filled.problems[index] : undefined}
                onChange={(change) => setEntries((before) => before.map((one, at) => (at === index ? { ...one, ...change } : one)))}
              />
            );
          })}
          {tried && filled.problem !== undefined && (
            <p class="problem" role="alert" dir="auto">
              {filled.problem}
            </p>
          )}
          <div class="actions">
            <button class="main" disabled={asking}>
              {asking ? texts.try.submitting : texts.try.submit}
            </button>
            <span class="hint">{texts.try.shortcut}</span>
          </div>
        </form>
        <section class="card" ref={answers} aria-labelledby="answer" aria-busy={asking}>
          <h2 id="answer">{texts.try.answer}</h2>
          <AnswerOf outcome={outcome} signature={signature} />
        </section>
      </div>
      <section class="card" aria-labelledby="code">
        <h2 id="code">{texts.try.code}</h2>
        <CallCode model={model} version={version} name={name} form={form} entries={entries} body={filled.body} server={server} />
      </section>
    </>
  );
}

function AnswerOf({ outcome, signature }: { outcome: Outcome | undefined; signature: Signature }): JSX.Element {
  if (outcome === undefined) return <p class="quiet">{texts.try.noAnswer}</p>;
  if ("error" in outcome) {
    return (
      <>
        <p>{texts.try.failed}</p>
        <Trouble error={outcome.error} />
      </>
    );
  }
  return (
    <>
      <AnswerView reply={outcome.reply} text={outcome.text} signature={signature} />
      <p class="quiet">{texts.try.tookMs(format.milliseconds(outcome.took))}</p>
    </>
  );
}

interface Filled {
  body: Body | undefined;
  /** For each field, what is wrong with it. */
  problems: (string | undefined)[];
  /** What is wrong with all together. */
  problem: string | undefined;
}

function fill(form: Form, entries: Entry[], signature: string): Filled {
  const problems: (string | undefined)[] = [];
  const given = form.fields.map((field, index) => {
    const entry = entries[index];
    try {
      return entry && givenBy(entry, field, form);
    } catch (error) {
      problems[index] = why(error);
      return undefined;
    }
  });
  const whole = given.filter((one) => one !== undefined);
  if (whole.length < form.fields.length) return { body: undefined, problems, problem: undefined };
  try {
    return { body: bodyOf(form, whole, signature), problems, problem: undefined };
  } catch (error) {
    return { body: undefined, problems, problem: why(error) };
  }
}

function why(error: unknown): string {
  if (!(error instanceof Invalid)) console.warn(error);
  return error instanceof Error ? error.message : String(error);
}

interface CallCodeProps {
  model: string;
  version: number | null;
  name: string;
  form: Form;
  entries: Entry[];
  body: Body | undefined;
  server: ServerInfo | undefined;
}

function CallCode({ model, version, name, form, entries, body, server }: CallCodeProps): JSX.Element {
  const rest = restAddress(server);
  const grpc = server?.grpc_address ?? null;
  const needsToken = server?.auth === true || token() !== null;
  const snippets = useMemo(() => {
    if (body === undefined) return [];
    const call: Call = { model, version, signature: name, body, rest, grpc, needsToken, file: fileOf(form, entries) };
    return snippetsOf(call, form);
  }, [body, version, rest, grpc, needsToken]);
  return <Code snippets={snippets} request={() => writeJson(body)} needsToken={needsToken} />;
}

/** Where clients send requests: this page's own origin, unless the page is the administration's. */
function restAddress(server: ServerInfo | undefined): string | null {
  if (server === undefined || !server.manage) return location.origin;
  if (server.rest_address === null) return null;
  return server.rest_address.includes("://") ? server.rest_address : `http://${server.rest_address}`;
}

/** The only input, if it is a string and a picture's file was given. */
function fileOf(form: Form, entries: Entry[]): Call["file"] {
  const [field] = form.fields;
  const [entry] = entries;
  if (form.fields.length !== 1 || !form.byRow || field === undefined || entry === undefined) return null;
  if (field.family !== "string" || (field.dims ?? []).length > 0 || !["picture", "file"].includes(entry.kind)) return null;
  const { picked } = entry;
  return picked !== null && picked.type.startsWith("image/") ? { name: picked.name, type: picked.type } : null;
}
