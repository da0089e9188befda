// The list of models: what there is, how it does; searched and paged by the server.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { engineOf, memoryOf, paths, type ListedModel, type ModelList, type ServerInfo } from "../api";
import { usePolled } from "../connection";
import * as format from "../format";
import { announce, Badge, Empty, Lead, Name, Scrolling, toneOf, Trouble, Waiting } from "../parts/basics";
import { hashOf } from "../router";
import { texts } from "../texts";

const EVERY_MS = 2000;
export const PAGE = 50;
const MOST_VERSIONS = 4;
const MOST_LABELS = 4;

/** A list of models that is searched and paged. */
export interface Paged {
  list: ModelList | undefined;
  error: Error | undefined;
  search: string;
  setSearch: (text: string) => void;
  /** Names after which the pages before this one begin, and this one. */
  back: (() => void) | undefined;
  forth: (() => void) | undefined;
  from: number;
  again: () => void;
}

export function useModels(limit: number): Paged {
  const [search, setSearch] = useState("");
  const [asked, setAsked] = useState("");
  // A page has as many models as the server gives at once, so each says how many are before it.
  const [starts, setStarts] = useState<{ after: string; before: number }[]>([]);
  useEffect(() => {
    // What is asked already keeps its page.
    if (search.trim() === asked) return undefined;
    const timer = setTimeout(() => {
      setAsked(search.trim());
      setStarts([]);
    }, 200);
    return () => clearTimeout(timer);
  }, [search, asked]);
  const polled = usePolled<ModelList>(paths.models(asked, starts.at(-1)?.after ?? null, limit), EVERY_MS);
  // While the next page comes, the one before stays.
  const [kept, setKept] = useState<ModelList>();
  useEffect(() => {
    if (polled.data) setKept(polled.data);
  }, [polled.data]);
  const total = polled.data?.total;
  useEffect(() => {
    if (asked !== "" && total !== undefined) announce(texts.models.found(total), false);
  }, [asked, total]);
  const next = polled.data?.next ?? null;
  const from = starts.at(-1)?.before ?? 0;
  const after = from + (polled.data?.models.length ?? 0);
  return {
    list: polled.data ?? kept,
    error: polled.data ? undefined : polled.error,
    search,
    setSearch,
    back: starts.length > 0 ? () => setStarts((pages) => pages.slice(0, -1)) : undefined,
    forth: next !== null ? () => setStarts((pages) => [...pages, { after: next, before: after }]) : undefined,
    from,
    again: polled.again,
  };
}

export function ModelsPage({ server }: { server: ServerInfo | undefined }): JSX.Element {
  const paged = useModels(PAGE);
  const { list } = paged;
  const nothing = list?.total === 0 && paged.search.trim() === "";
  return (
    <>
      <Lead title={texts.pages.models} lead={texts.models.lead}>
        {!nothing && <Search paged={paged} label={texts.models.search} />}
      </Lead>
      {server && <Summary server={server} />}
      {paged.error && <Trouble error={paged.error} />}
      {list === undefined && !paged.error && <Waiting />}
      {nothing && (
        <Empty title={texts.models.empty}>
          <p>{texts.models.emptyHow}</p>
          <pre class="sample">servable serve models/half_plus_two</pre>
        </Empty>
      )}
      {list !== undefined && list.total === 0 && !nothing && <Empty title={texts.models.nothingFound(format.plain(paged.search.trim(), 60))} />}
      {list !== undefined && list.models.length > 0 && (
        <>
          <Scrolling label={texts.models.table}>
            <Table models={list.models} />
          </Scrolling>
          <Pager paged={paged} />
        </>
      )}
    </>
  );
}

export function Search({ paged, label }: { paged: Paged; label: string }): JSX.Element {
  return (
    <input
      type="search"
      class="search"
      aria-label={label}
      placeholder={label}
      value={paged.search}
      maxLength={500}
      dir="auto"
      spellcheck={false}
      onInput={(event) => paged.setSearch(event.currentTarget.value)}
    />
  );
}

export function Pager({ paged }: { paged: Paged }): JSX.Element | null {
  const { list, back, forth, from } = paged;
  if (list === undefined) return null;
  return (
    <nav class="pager" aria-label={texts.models.pager}>
      <span class="quiet">{texts.models.shown(from + 1, from + list.models.length, list.total)}</span>
      {(back || forth) && (
        <>
          <button type="button" disabled={!back} onClick={back}>
            {texts.models.previous}
          </button>
          <button type="button" disabled={!forth} onClick={forth}>
            {texts.models.next}
          </button>
        </>
      )}
    </nav>
  );
}

function Summary({ server }: { server: ServerInfo }): JSX.Element {
  const { total, available, failed } = server.models;
  const names = texts.models.summary;
  const figures: [string, string, string][] = [
    [names.total, total.toLocaleString("en-US"), ""],
    [names.available, available.toLocaleString("en-US"), available > 0 ? "good" : ""],
    [names.failed, failed.toLocaleString("en-US"), failed > 0 ? "bad" : ""],
    [names.memory, format.bytes(server.resident_bytes), ""],
    [names.uptime, format.duration(server.uptime_seconds), ""],
  ];
  return (
    <dl class="figures">
      {figures.map(([name, value, tone]) => (
        <div key={name} class={tone}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Table({ models }: { models: ListedModel[] }): JSX.Element {
  const columns = texts.models.columns;
  return (
    <table class="models">
      <caption class="unseen">{texts.models.table}</caption>
      <thead>
        <tr>
          <th scope="col">{columns.name}</th>
          <th scope="col">{columns.standing}</th>
          <th scope="col">{columns.versions}</th>
          <th scope="col">{columns.engine}</th>
          <th scope="col" class="right">
            {columns.load}
          </th>
          <th scope="col" class="right">
            {columns.memory}
          </th>
          <th scope="col">{columns.labels}</th>
        </tr>
      </thead>
      <tbody>
        {models.map((model) => (
          <Line key={model.name} model={model} />
        ))}
      </tbody>
    </table>
  );
}

function Line({ model }: { model: ListedModel }): JSX.Element {
  // What is said of the model is that of the version that answers: the newest available one.
  const main = model.versions.find((one) => one.state === "AVAILABLE") ?? model.versions[0];
  const memory = model.versions.map(memoryOf).filter((one): one is number => one !== undefined);
  const labels = Object.entries(model.labels ?? {});
  return (
    <tr>
      <th scope="row">
        <a href={hashOf({ page: "model", name: model.name })}>
          <Name text={model.name} most={60} />
        </a>
      </th>
      <td>
        <Badge state={model.standing} />
      </td>
      <td>
        <span class="chips">
          {model.versions.slice(0, MOST_VERSIONS).map((one) => (
            <span key={one.version} class={`chip ${toneOf(one.state, one.error !== undefined)}`} title={one.state.toLowerCase()}>
              {one.version}
              <span class="unseen"> {one.state.toLowerCase()}</span>
            </span>
          ))}
          {model.versions.length > MOST_VERSIONS && <span class="quiet">{texts.models.more(model.versions.length - MOST_VERSIONS)}</span>}
        </span>
      </td>
      <td>{main ? <Name text={engineOf(main)} most={30} /> : ""}</td>
      <td class="right">{format.seconds(main?.load_seconds)}</td>
      <td class="right">{format.bytes(memory.length > 0 ? memory.reduce((sum, one) => sum + one, 0) : undefined)}</td>
      <td>
        <span class="chips">
          {labels.slice(0, MOST_LABELS).map(([label, version]) => (
            <span key={label} class="chip">
              <Name text={label} most={20} /> {version}
            </span>
          ))}
          {labels.length > MOST_LABELS && <span class="quiet">{texts.models.more(labels.length - MOST_LABELS)}</span>}
        </span>
      </td>
    </tr>
  );
}
