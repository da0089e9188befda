// What the server has done in the last hour, of all models or of one.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { paths, type Traffic } from "../api";
import { usePolled } from "../connection";
import * as format from "../format";
import { Empty, Lead, Name, Trouble, Waiting } from "../parts/basics";
import { Chart } from "../parts/chart";
import { go } from "../router";
import { texts } from "../texts";
import { perSecond, since } from "../traffic";

const EVERY_MS = 5000;
const HOUR = 3600;
const SPANS = ["300", "900", "3600"] as const;

export function TrafficPage({ name }: { name: string | null }): JSX.Element {
  const [span, setSpan] = useState<(typeof SPANS)[number]>("900");
  const { data, error } = usePolled<Traffic>(paths.traffic(name ?? "", HOUR), EVERY_MS);
  return (
    <>
      <Lead title={name === null ? texts.pages.traffic : <Name text={name} />} lead={texts.traffic.lead}>
        <ModelChoice name={name} models={data?.models ?? []} />
        <label class="field inline">
          <span>{texts.traffic.span}</span>
          <select value={span} onChange={(event) => setSpan(event.currentTarget.value as typeof span)}>
            {SPANS.map((one) => (
              <option key={one} value={one}>
                {texts.traffic.spans[one]}
              </option>
            ))}
          </select>
        </label>
      </Lead>
      {error && <Trouble error={error} />}
      {!data && !error && <Waiting />}
      {data && (data.t.length === 0 ? <Empty title={texts.traffic.empty} /> : <Charts traffic={since(data, Number(span))} span={Number(span)} />)}
    </>
  );
}

function ModelChoice({ name, models }: { name: string | null; models: string[] }): JSX.Element {
  const known = name === null || models.includes(name) ? models : [name, ...models];
  return (
    <label class="field inline">
      <span>{texts.traffic.of}</span>
      <select
        value={name === null ? "" : String(known.indexOf(name))}
        onChange={(event) => {
          const { value } = event.currentTarget;
          go({ page: "traffic", name: value === "" ? null : (known[Number(value)] ?? null) });
        }}
      >
        <option value="">{texts.traffic.all}</option>
        {known.map((model, index) => (
          <option key={model} value={String(index)} dir="auto">
            {format.plain(model, 60)}
          </option>
        ))}
      </select>
    </label>
  );
}

function Charts({ traffic, span }: { traffic: Traffic; span: number }): JSX.Element {
  const { charts, lines } = texts.traffic;
  const { t } = traffic;
  const rate = (counts: Traffic["requests"]): Traffic["requests"] => perSecond(counts, traffic.interval_seconds);
  return (
    <div class="charts">
      <Chart
        title={charts.rate}
        t={t}
        span={span}
        show={format.number}
        lines={[
          { label: lines.requests, values: rate(traffic.requests) },
          { label: lines.errors, values: rate(traffic.errors) },
        ]}
      />
      <Chart
        title={charts.latency}
        t={t}
        span={span}
        show={format.milliseconds}
        lines={[
          { label: lines.p50, values: traffic.p50_ms },
          { label: lines.p90, values: traffic.p90_ms },
          { label: lines.p99, values: traffic.p99_ms },
        ]}
      />
      <Chart title={charts.inFlight} t={t} span={span} show={format.number} lines={[{ label: lines.inFlight, values: traffic.in_flight }]} />
      <Chart title={charts.queue} t={t} span={span} show={format.milliseconds} lines={[{ label: lines.queue, values: traffic.queue_ms }]} />
      <Chart title={charts.batch} t={t} span={span} show={format.number} lines={[{ label: lines.rows, values: traffic.batch_rows }]} />
      <Chart title={charts.cpu} t={t} span={span} show={format.number} lines={[{ label: lines.cpu, values: traffic.cpu_cores }]} />
      <Chart title={charts.memory} t={t} span={span} show={format.bytes} lines={[{ label: lines.memory, values: traffic.resident_bytes }]} />
    </div>
  );
}
