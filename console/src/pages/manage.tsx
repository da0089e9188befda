// Changes: load, unload, reload, labels, recordings; the configuration and what was changed last. The server
// allows them at the administration's address alone.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { paths, type Change, type ListedModel, type Model, type ServerInfo } from "../api";
import { blob, json, text as ask, useConnection, usePolled } from "../connection";
import * as format from "../format";
import { announce, Badge, Dialog, Empty, Lead, Name, Prose, Scrolling, Trouble, Waiting } from "../parts/basics";
import { save } from "../parts/download";
import { texts } from "../texts";
import { Pager, Search, useModels } from "./models";

const PAGE = 20;
const EVERY_MS = 3000;
const names = texts.manage;

type Action = "unload" | "labels" | "record";

export function ManagePage({ server }: { server: ServerInfo | undefined }): JSX.Element {
  return (
    <>
      <Lead title={texts.pages.manage} lead={server?.manage === true ? names.lead : undefined} />
      {server === undefined ? <Waiting /> : server.manage ? <Managing /> : <Elsewhere address={server.admin_address} />}
    </>
  );
}

function Elsewhere({ address }: { address: string | null }): JSX.Element {
  const link = address !== null && /^https?:\/\//.test(address);
  return (
    <Empty title={names.only}>
      {address === null ? (
        <p>{names.onlyHow}</p>
      ) : (
        <p>
          {names.onlyThere} {link ? <a href={address}>{address}</a> : <Name text={address} />}
        </p>
      )}
    </Empty>
  );
}

function Managing(): JSX.Element {
  // What was changed here is seen at once.
  const [changed, setChanged] = useState(0);
  const onChanged = (): void => setChanged((count) => count + 1);
  return (
    <>
      <LoadForm onChanged={onChanged} />
      <Models changed={changed} onChanged={onChanged} />
      <Changes changed={changed} />
      <Configuration changed={changed} onChanged={onChanged} />
    </>
  );
}

/** Runs one change at a time; says what came of it. */
function useWork(onChanged: () => void): { busy: string; error: Error | undefined; work: (what: string, change: () => Promise<string>) => Promise<boolean> } {
  const [busy, setBusy] = useState("");
  const [error, setError] = useState<Error>();
  const work = async (what: string, change: () => Promise<string>): Promise<boolean> => {
    setBusy(what);
    setError(undefined);
    let done = false;
    try {
      announce(await change());
      done = true;
    } catch (thrown) {
      setError(thrown instanceof Error ? thrown : new Error(String(thrown)));
    }
    setBusy("");
    onChanged();
    return done;
  };
  return { busy, error, work };
}

const brief = (name: string): string => format.plain(name, 60);

// ---- load

function LoadForm({ onChanged }: { onChanged: () => void }): JSX.Element {
  const [name, setName] = useState("");
  const [path, setPath] = useState("");
  const [policy, setPolicy] = useState<keyof typeof names.policies>("keep");
  const { busy, error, work } = useWork(onChanged);
  const submit = (event: Event): void => {
    event.preventDefault();
    const versions = policy === "latest" ? { latest: { num_versions: 1 } } : { all: {} };
    const entry = { base_path: path, ...(policy === "keep" ? {} : { model_version_policy: versions }) };
    void work(names.submitLoad, async () => {
      const model = await json<Model>(paths.manage(name), { method: "PUT", body: JSON.stringify(entry) });
      setName("");
      setPath("");
      return names.loaded(brief(name), model.standing);
    });
  };
  return (
    <section class="card" aria-labelledby="load">
      <h2 id="load">{names.load}</h2>
      <p class="quiet">{names.loadHow}</p>
      <form class="line-form" onSubmit={submit}>
        <label class="field">
          <span>{names.name}</span>
          <input required dir="auto" spellcheck={false} value={name} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <label class="field wide">
          <span>{names.path}</span>
          <input required class="code" spellcheck={false} placeholder="/models/my_model" title={names.pathHow} value={path} onInput={(event) => setPath(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>{names.policy}</span>
          <select value={policy} onChange={(event) => setPolicy(event.currentTarget.value as typeof policy)}>
            {(Object.keys(names.policies) as (keyof typeof names.policies)[]).map((one) => (
              <option key={one} value={one}>
                {names.policies[one]}
              </option>
            ))}
          </select>
        </label>
        <button class="main" disabled={busy !== ""}>
          {busy !== "" ? names.working : names.submitLoad}
        </button>
      </form>
      {error && <Trouble error={error} />}
    </section>
  );
}

// ---- models

function Models({ changed, onChanged }: { changed: number; onChanged: () => void }): JSX.Element {
  const paged = useModels(PAGE);
  const { busy, error, work } = useWork(onChanged);
  const [open, setOpen] = useState<{ action: Action; model: ListedModel }>();
  const close = (): void => setOpen(undefined);
  useEffect(() => {
    if (changed > 0) paged.again();
  }, [changed]);
  const reload = (model: ListedModel): void => {
    void work(`${names.reload} ${model.name}`, async () => {
      const now = await json<Model>(paths.manage(model.name, "reload"), { method: "POST" });
      return names.reloaded(brief(model.name), now.standing);
    });
  };
  const { list } = paged;
  return (
    <section class="card" aria-labelledby="managed">
      <div class="card-head">
        <h2 id="managed">{names.models}</h2>
        <Search paged={paged} label={names.search} />
      </div>
      {error && <Trouble error={error} />}
      {paged.error && <Trouble error={paged.error} />}
      {list?.total === 0 && <p class="quiet">{texts.none}</p>}
      {list && list.models.length > 0 && (
        <>
          <Scrolling label={names.models}>
            <table class="managed">
              <caption class="unseen">{names.models}</caption>
              <thead>
                <tr>
                  <th scope="col">{texts.models.columns.name}</th>
                  <th scope="col">{texts.models.columns.standing}</th>
                  <th scope="col">{texts.models.columns.labels}</th>
                  <th scope="col" class="right">
                    {names.actions}
                  </th>
                </tr>
              </thead>
              <tbody>
                {list.models.map((model) => (
                  <tr key={model.name}>
                    <th scope="row">
                      <Name text={model.name} most={40} />
                    </th>
                    <td>
                      <Badge state={model.standing} />
                    </td>
                    <td>
                      <LabelChips labels={model.labels ?? {}} />
                    </td>
                    <td class="right row-actions">
                      {model.standing !== "removed" && <RowActions model={model} busy={busy} onReload={reload} onOpen={setOpen} />}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Scrolling>
          <Pager paged={paged} />
        </>
      )}
      {open?.action === "unload" && <UnloadDialog model={open.model.name} onClose={close} onChanged={onChanged} />}
      {open?.action === "labels" && (
        <LabelsDialog model={list?.models.find((one) => one.name === open.model.name) ?? open.model} onClose={close} onChanged={onChanged} />
      )}
      {open?.action === "record" && <RecordDialog model={open.model.name} onClose={close} onChanged={onChanged} />}
    </section>
  );
}

interface RowActionsProps {
  model: ListedModel;
  busy: string;
  onReload: (model: ListedModel) => void;
  onOpen: (open: { action: Action; model: ListedModel }) => void;
}

function RowActions({ model, busy, onReload, onOpen }: RowActionsProps): JSX.Element {
  return (
    <>
      <RowButton text={names.reload} model={model} busy={busy === `${names.reload} ${model.name}`} disabled={busy !== ""} onClick={() => onReload(model)} />
      <RowButton text={names.labels} model={model} onClick={() => onOpen({ action: "labels", model })} />
      <RowButton text={names.record} model={model} onClick={() => onOpen({ action: "record", model })} />
      <RowButton text={names.unload} model={model} onClick={() => onOpen({ action: "unload", model })} />
    </>
  );
}

function LabelChips({ labels }: { labels: Record<string, number> }): JSX.Element {
  return (
    <span class="chips">
      {Object.entries(labels)
        .slice(0, 5)
        .map(([label, version]) => (
          <span key={label} class="chip">
            <Name text={label} most={20} /> {version}
          </span>
        ))}
    </span>
  );
}

interface RowButtonProps {
  text: string;
  model: ListedModel;
  onClick: () => void;
  busy?: boolean;
  disabled?: boolean;
}

function RowButton({ text, model, onClick, busy = false, disabled = false }: RowButtonProps): JSX.Element {
  return (
    <button type="button" class="small" aria-label={names.of(text, brief(model.name))} disabled={disabled} onClick={onClick}>
      {busy ? names.working : text}
    </button>
  );
}

interface DialogProps {
  model: string;
  onClose: () => void;
  onChanged: () => void;
}

function Of({ model }: { model: string }): JSX.Element {
  return (
    <p class="of">
      <Name text={model} />
    </p>
  );
}

function UnloadDialog({ model, onClose, onChanged }: DialogProps): JSX.Element {
  const { busy, error, work } = useWork(onChanged);
  const unload = async (): Promise<void> => {
    const done = await work(names.unload, async () => {
      await ask(paths.manage(model), { method: "DELETE" });
      return names.unloaded(brief(model));
    });
    if (done) onClose();
  };
  return (
    <Dialog title={names.unloadTitle} onClose={onClose}>
      <Of model={model} />
      <p>{names.unloadHow}</p>
      {error && <Trouble error={error} />}
      <Actions onClose={onClose} closing={texts.cancel}>
        <button type="button" class="danger" disabled={busy !== ""} onClick={() => void unload()}>
          {busy !== "" ? names.working : names.unload}
        </button>
      </Actions>
    </Dialog>
  );
}

/** Closing is the first, which has the focus when the dialog opens. */
function Actions({ onClose, closing, children }: { onClose: () => void; closing: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="actions end">
      <button type="button" onClick={onClose}>
        {closing}
      </button>
      {children}
    </div>
  );
}

function LabelsDialog({ model, onClose, onChanged }: { model: ListedModel; onClose: () => void; onChanged: () => void }): JSX.Element {
  const available = model.versions.filter((one) => one.state === "AVAILABLE").map((one) => one.version);
  const [label, setLabel] = useState("");
  const [version, setVersion] = useState(String(available[0] ?? ""));
  const { busy, error, work } = useWork(onChanged);
  const patch = (changes: Record<string, number | null>, said: string): Promise<boolean> =>
    work(names.labels, async () => {
      await ask(paths.manage(model.name, "labels"), { method: "PATCH", body: JSON.stringify(changes) });
      return said;
    });
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const changes = Object.fromEntries([[label, Number(version)]]);
    if (await patch(changes, names.labelled(brief(label), Number(version)))) setLabel("");
  };
  return (
    <Dialog title={names.labelsTitle} onClose={onClose}>
      <Of model={model.name} />
      <p class="quiet">{names.labelsHow}</p>
      <ul class="label-list">
        {Object.entries(model.labels ?? {}).map(([one, of]) => (
          <li key={one}>
            <span>
              <Name text={one} most={40} /> <span class="quiet">{of}</span>
            </span>
            <button
              type="button"
              class="small"
              disabled={busy !== ""}
              aria-label={names.of(names.remove, brief(one))}
              onClick={() => void patch(Object.fromEntries([[one, null]]), names.unlabelled(brief(one)))}
            >
              {names.remove}
            </button>
          </li>
        ))}
      </ul>
      <form class="line-form" onSubmit={(event) => void submit(event)}>
        <label class="field">
          <span>{names.label}</span>
          <input required dir="auto" spellcheck={false} value={label} onInput={(event) => setLabel(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>{names.version}</span>
          <select value={version} onChange={(event) => setVersion(event.currentTarget.value)}>
            {available.map((one) => (
              <option key={one} value={String(one)}>
                {one}
              </option>
            ))}
          </select>
        </label>
        <button class="main" disabled={busy !== "" || available.length === 0}>
          {names.add}
        </button>
      </form>
      {error && <Trouble error={error} />}
      <Actions onClose={onClose} closing={texts.close} />
    </Dialog>
  );
}

function RecordDialog({ model, onClose, onChanged }: DialogProps): JSX.Element {
  const [limits, setLimits] = useState({ requests: "100", seconds: "60", every: "1" });
  const { busy, error, work } = useWork(onChanged);
  const submit = (event: Event): void => {
    event.preventDefault();
    const body = Object.fromEntries(Object.entries(limits).map(([key, value]) => [key, Number(value)]));
    void work(names.record, async () => {
      const file = await blob(paths.manage(model, "record"), { method: "POST", body: JSON.stringify(body) });
      if (file.size === 0) return names.recordedNothing;
      save(file, "tf_serving_warmup_requests");
      return names.recorded(format.bytes(file.size));
    });
  };
  const keys = ["requests", "seconds", "every"] as const;
  return (
    <Dialog title={names.recordTitle} onClose={onClose}>
      <Of model={model} />
      <p class="quiet">{names.recordHow}</p>
      <form onSubmit={submit}>
        <div class="line-form">
          {keys.map((key) => (
            <label key={key} class="field">
              <span>{names[key]}</span>
              <input
                type="number"
                required
                min={key === "seconds" ? "0.1" : "1"}
                max={key === "seconds" ? "3600" : "1000000"}
                step={key === "seconds" ? "any" : "1"}
                value={limits[key]}
                onInput={(event) => setLimits({ ...limits, [key]: event.currentTarget.value })}
              />
            </label>
          ))}
        </div>
        {error && <Trouble error={error} />}
        <Actions onClose={onClose} closing={texts.close}>
          <button class="main" disabled={busy !== ""}>
            {busy !== "" ? names.recording : names.submitRecord}
          </button>
        </Actions>
      </form>
    </Dialog>
  );
}

// ---- what was changed, and what holds

function Changes({ changed }: { changed: number }): JSX.Element {
  const { data, error, again } = usePolled<{ changes: Change[] }>(paths.changes, EVERY_MS);
  useEffect(() => {
    if (changed > 0) again();
  }, [changed]);
  const columns = names.change;
  return (
    <section class="card" aria-labelledby="changes">
      <h2 id="changes">{names.changes}</h2>
      {error && <Trouble error={error} />}
      {data && data.changes.length === 0 && <p class="quiet">{names.noChanges}</p>}
      {data && data.changes.length > 0 && (
        <Scrolling label={names.changes}>
          <table class="changes">
            <caption class="unseen">{names.changes}</caption>
            <thead>
              <tr>
                <th scope="col">{columns.at}</th>
                <th scope="col">{columns.what}</th>
                <th scope="col">{columns.model}</th>
                <th scope="col">{columns.outcome}</th>
              </tr>
            </thead>
            <tbody>
              {data.changes.slice(0, 200).map((change, index) => (
                <tr key={index}>
                  <td>{format.moment(change.at)}</td>
                  <td>
                    {format.cut(change.what, 40)}
                    {change.by === "client" && <span class="quiet"> {names.byClient}</span>}
                  </td>
                  <td>{change.model === null ? "" : <Name text={change.model} most={40} />}</td>
                  <td>
                    <span class={change.outcome === "OK" ? "badge good" : "badge bad"}>
                      <span>{format.cut(change.outcome, 40)}</span>
                    </span>
                    {change.message !== "" && <Prose text={change.message} most={300} />}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </Scrolling>
      )}
    </section>
  );
}

function Configuration({ changed, onChanged }: { changed: number; onChanged: () => void }): JSX.Element {
  const [config, setConfig] = useState<string>();
  const [trouble, setTrouble] = useState<Error>();
  const { busy, error, work } = useWork(onChanged);
  const { epoch } = useConnection();
  useEffect(() => {
    const ending = new AbortController();
    ask(paths.config, { signal: ending.signal })
      .then((text) => {
        setConfig(text);
        setTrouble(undefined);
      })
      .catch((thrown: unknown) => {
        if (!ending.signal.aborted) setTrouble(thrown instanceof Error ? thrown : new Error(String(thrown)));
      });
    return () => ending.abort();
  }, [changed, epoch]);
  const reload = (): void => {
    void work(names.reloadConfig, async () => {
      await ask(paths.reloadConfig, { method: "POST" });
      return names.reloadedConfig;
    });
  };
  return (
    <section class="card" aria-labelledby="config">
      <div class="card-head">
        <h2 id="config">{names.config}</h2>
        <button type="button" disabled={busy !== ""} onClick={reload}>
          {busy !== "" ? names.working : names.reloadConfig}
        </button>
      </div>
      <p class="quiet">{names.configHow}</p>
      {error && <Trouble error={error} />}
      {trouble && <Trouble error={trouble} />}
      {config !== undefined && (
        <pre tabIndex={0} dir="ltr" aria-label={names.config}>
          {format.cut(config.trim() === "" ? texts.none : config, 50_000)}
        </pre>
      )}
    </section>
  );
}
