// What the server answers, as the page uses it, and the paths to ask for it.

export interface ServerInfo {
  version: string;
  started: number;
  uptime_seconds: number;
  manage: boolean;
  admin_address: string | null;
  rest_address: string | null;
  grpc_address: string | null;
  engines: Record<string, string>;
  models: { total: number; available: number; failed: number };
  resident_bytes: number;
  auth: boolean;
}

export interface Failure {
  code: string;
  message: string;
}

export interface ListedVersion {
  version: number;
  state: string;
  error?: Failure;
  engine?: string;
  load_seconds?: number;
  memory_bytes?: number;
}

export interface ListedModel {
  name: string;
  standing: string;
  base_path?: string | null;
  labels?: Record<string, number>;
  versions: ListedVersion[];
}

export interface ModelList {
  models: ListedModel[];
  total: number;
  next: string | null;
}

/** A tensor of a signature; the shape is null where even the rank is unknown, -1 stands for any length. */
export interface Tensor {
  name: string;
  dtype: string;
  shape: number[] | null;
}

export interface Signature {
  method?: string;
  inputs: Tensor[];
  outputs: Tensor[];
}

export interface Version extends ListedVersion {
  advice?: string;
  loading_seconds?: number;
  waits_for?: string | null;
  path?: string;
  available_since?: number;
  file_bytes?: number;
  memory_bytes_estimate?: number;
  runs_in?: Record<string, string> | string | null;
  engines?: Record<string, { engine?: string; progress?: string; reason?: string }>;
  signatures?: Record<string, Signature>;
}

export interface Model {
  name: string;
  standing: string;
  /** What to do where there is nothing to load. */
  advice?: string;
  base_path?: string | null;
  version_policy?: unknown;
  labels?: Record<string, number>;
  versions: Version[];
}

export type Column = (number | null)[];

export interface Traffic {
  interval_seconds: number;
  t: number[];
  requests: Column;
  errors: Column;
  p50_ms: Column;
  p90_ms: Column;
  p99_ms: Column;
  batch_rows: Column;
  queue_ms: Column;
  in_flight: Column;
  cpu_cores: Column;
  resident_bytes: Column;
  models: string[];
}

export interface Change {
  at: number;
  by?: "operator" | "client";
  what: string;
  model: string | null;
  outcome: string;
  message: string;
}

/** Escapes everything that has a meaning in a path, `!'()*` included, which shells and linkifiers trip over. */
export function segment(text: string): string {
  const wellFormed = text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd");
  return encodeURIComponent(wellFormed).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function query(fields: Record<string, string | number | null>): string {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== "");
  const text = given.map(([key, value]) => `${key}=${segment(String(value))}`).join("&");
  return text === "" ? "" : `?${text}`;
}

export const paths = {
  server: "console/api/server",
  changes: "console/api/changes",
  config: "admin/config?format=text",
  reloadConfig: "admin/config/reload",
  models: (search: string, after: string | null, limit: number): string =>
    `console/api/models${query({ search, after, limit })}`,
  model: (name: string): string => `console/api/models/${segment(name)}`,
  traffic: (model: string, seconds: number): string => `console/api/traffic${query({ model, seconds })}`,
  predict: (name: string, version: number | null): string =>
    `v1/models/${segment(name)}${version === null ? "" : `/versions/${version}`}:predict`,
  manage: (name: string, verb?: "reload" | "labels" | "record"): string =>
    `admin/models/${segment(name)}${verb === undefined ? "" : `/${verb}`}`,
};

/** The engine of a version: as listed, otherwise that of its signatures. */
export function engineOf(version: Version | ListedVersion): string {
  if (version.engine) return version.engine;
  const engines = "engines" in version ? Object.values(version.engines ?? {}) : [];
  return [...new Set(engines.flatMap((one) => (one.engine ? [one.engine] : [])))].join(", ");
}

/** What runs signatures by another engine than the version's own, which was measured to be faster. */
export function movedTo(version: Version): [string, string][] {
  const moved = Object.entries(version.engines ?? {}).map(([signature, one]): [string, string] => [signature, one.engine ?? ""]);
  return moved.filter(([, engine]) => engine !== "" && engine !== version.engine);
}

export function memoryOf(version: Version | ListedVersion): number | undefined {
  return version.memory_bytes ?? ("memory_bytes_estimate" in version ? version.memory_bytes_estimate : undefined);
}
