// One model: every version with its state, what it costs, its signatures, and what is wrong with it.
import type { JSX } from "preact";
import { engineOf, memoryOf, movedTo, paths, type Model, type Signature, type Tensor, type Version } from "../api";
import { usePolled } from "../connection";
import * as format from "../format";
import { Badge, Empty, Facts, Lead, Name, Prose, Scrolling, Trouble, Waiting } from "../parts/basics";
import { hashOf } from "../router";
import { texts } from "../texts";

const EVERY_MS = 2000;
const MOST_SIGNATURES = 30;
const MOST_TENSORS = 100;
const MOST_LABELS = 30;

export function ModelPage({ name, manages }: { name: string; manages: boolean }): JSX.Element {
  const { data: model, error } = usePolled<Model>(paths.model(name), EVERY_MS);
  return (
    <>
      <p class="back">
        <a href="#/models">← {texts.model.all}</a>
      </p>
      <Lead title={<Name text={name} />} lead={model && <Badge state={model.standing} />}>
        {model && (
          <>
            {manages && (
              <a class="button" href="#/manage">
                {texts.model.manage}
              </a>
            )}
            <a class="button" href={hashOf({ page: "traffic", name })}>
              {texts.model.traffic}
            </a>
            <a class="button main" href={hashOf({ page: "try", name })}>
              {texts.model.tryIt}
            </a>
          </>
        )}
      </Lead>
      {error && (error.status === 404 ? <Empty title={texts.model.gone} /> : <Trouble error={error} />)}
      {!model && !error && <Waiting />}
      {model && <Body model={model} />}
    </>
  );
}

function Body({ model }: { model: Model }): JSX.Element {
  const labels = Object.entries(model.labels ?? {});
  return (
    <>
      <Facts
        facts={[
          [texts.model.path, model.base_path ? <Name text={model.base_path} most={300} /> : undefined],
          [texts.model.policy, policyText(model.version_policy)],
          [
            texts.model.labels,
            labels.length === 0 ? undefined : (
              <span class="chips">
                {labels.slice(0, MOST_LABELS).map(([label, version]) => (
                  <span key={label} class="chip">
                    <Name text={label} most={40} /> {version}
                  </span>
                ))}
                {labels.length > MOST_LABELS && <span class="quiet">{texts.models.more(labels.length - MOST_LABELS)}</span>}
              </span>
            ),
          ],
        ]}
      />
      {model.versions.length === 0 && <Empty title={texts.model.noVersions} />}
      {model.advice && (
        <div class="notice busy">
          <h2>{texts.model.advice}</h2>
          <Prose text={model.advice} />
        </div>
      )}
      {model.versions.map((version) => (
        <VersionCard key={version.version} version={version} labels={labels.filter(([, of]) => of === version.version).map(([label]) => label)} />
      ))}
    </>
  );
}

function policyText(policy: unknown): string | undefined {
  if (policy === undefined || policy === null) return undefined;
  return format.cut(typeof policy === "string" ? policy : JSON.stringify(policy).replaceAll(":{", " – ").replace(/["{}]/g, "").replace(/[:,]/g, "$& "), 200);
}

function VersionCard({ version, labels }: { version: Version; labels: string[] }): JSX.Element {
  const names = texts.model.facts;
  const heading = `version-${version.version}`;
  const shows = version.load_seconds !== undefined;
  const moved = movedTo(version);
  return (
    <section class="card" aria-labelledby={heading}>
      <div class="card-head">
        <h2 id={heading}>{texts.model.version(version.version)}</h2>
        <Badge state={version.state} failed={version.error !== undefined} />
        {labels.slice(0, 8).map((label) => (
          <span key={label} class="chip">
            <span class="unseen">{texts.model.labels}: </span>
            <Name text={label} most={40} />
          </span>
        ))}
      </div>
      {version.loading_seconds !== undefined && (
        <p class="quiet">
          {texts.model.loadingFor(format.seconds(version.loading_seconds))}
          {version.waits_for ? `; ${texts.model.waitsFor(format.cut(version.waits_for, 200))}` : ""}
        </p>
      )}
      {version.error && (
        <div class="notice bad">
          <p>
            <strong>{format.cut(version.error.code, 60)}</strong>
          </p>
          <Prose text={version.error.message} />
          {version.advice && (
            <>
              <h3>{texts.model.advice}</h3>
              <Prose text={version.advice} />
            </>
          )}
        </div>
      )}
      {shows && (
        <Facts
          facts={[
            [names.engine, <Name text={engineOf(version) || "–"} most={60} />],
            [
              names.engines,
              moved.length === 0
                ? undefined
                : moved.slice(0, 10).map(([signature, engine]) => (
                    <span key={signature} class="chip">
                      <Name text={signature} most={30} /> {format.cut(engine, 40)}
                    </span>
                  )),
            ],
            [names.load, format.seconds(version.load_seconds)],
            [names.memory, format.bytes(memoryOf(version))],
            [names.files, format.bytes(version.file_bytes)],
            [names.since, format.moment(version.available_since)],
            [names.path, version.path ? <Name text={version.path} most={300} /> : undefined],
          ]}
        />
      )}
      {version.signatures && Object.keys(version.signatures).length > 0 && <Signatures signatures={version.signatures} version={version.version} />}
    </section>
  );
}

function Signatures({ signatures, version }: { signatures: Record<string, Signature>; version: number }): JSX.Element {
  const entries = Object.entries(signatures);
  return (
    <>
      <h3>{texts.model.signatures}</h3>
      {entries.slice(0, MOST_SIGNATURES).map(([name, signature], index) => (
        <details key={name} open={index === 0} class="signature">
          <summary>
            <Name text={name} />
          </summary>
          <Scrolling label={`${texts.model.signatures} ${version}, ${format.plain(name, 60)}`}>
            <table>
              <caption class="unseen">{texts.model.signatures}</caption>
              <thead>
                <tr>
                  <th scope="col">
                    <span class="unseen">{texts.model.inputs}, {texts.model.outputs}</span>
                  </th>
                  <th scope="col">{texts.model.tensor}</th>
                  <th scope="col">{texts.model.type}</th>
                </tr>
              </thead>
              <tbody>
                <Tensors title={texts.model.inputs} tensors={signature.inputs} />
                <Tensors title={texts.model.outputs} tensors={signature.outputs} />
              </tbody>
            </table>
          </Scrolling>
        </details>
      ))}
      {entries.length > MOST_SIGNATURES && <p class="quiet">{texts.model.moreSignatures(entries.length - MOST_SIGNATURES)}</p>}
    </>
  );
}

function Tensors({ title, tensors }: { title: string; tensors: Tensor[] }): JSX.Element {
  return (
    <>
      {tensors.slice(0, MOST_TENSORS).map((tensor, index) => (
        <tr key={tensor.name}>
          <td class="quiet">{index === 0 ? title : ""}</td>
          <td>
            <Name text={tensor.name} />
          </td>
          <td class="code">{format.tensorType(tensor.dtype, tensor.shape)}</td>
        </tr>
      ))}
      {tensors.length > MOST_TENSORS && (
        <tr>
          <td />
          <td class="quiet">{texts.model.moreTensors(tensors.length - MOST_TENSORS)}</td>
          <td />
        </tr>
      )}
    </>
  );
}
