// The connection to the server: every request of the page, what is known of the server meanwhile (there,
// gone, wanting a token, having one without the rights), and values that are asked for again and again.
import { useEffect, useState } from "preact/hooks";
import { keptIn } from "./kept";

const TOKEN = "servable-token";
const kept = keptIn(() => sessionStorage);
/** After this long without an answer the server counts as gone; for what is asked for again and again. */
const PATIENCE_MS = 10_000;
const RETRY_MS = 1_500;

export type Standing = "starting" | "there" | "gone";

/** Why a token is asked for: requests are refused without a good one, or the user wants to give another. */
export type TokenQuestion = "none" | "needed" | "another";

export interface ConnectionState {
  standing: Standing;
  question: TokenQuestion;
  /** Grows whenever the server has come back, or a token has been given. */
  epoch: number;
}

let state: ConnectionState = { standing: "starting", question: "none", epoch: 0 };
const listeners = new Set<(state: ConnectionState) => void>();

function become(change: Partial<ConnectionState>): void {
  state = { ...state, ...change };
  for (const listener of listeners) listener(state);
}

export function useConnection(): ConnectionState {
  const [seen, setSeen] = useState(state);
  useEffect(() => {
    listeners.add(setSeen);
    setSeen(state);
    return () => {
      listeners.delete(setSeen);
    };
  }, []);
  return seen;
}

/** An answer of the server that is no success, with the server's text. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** There was no answer. */
export class Gone extends Error {}

export function token(): string | null {
  return kept.get(TOKEN);
}

export function giveToken(text: string): void {
  kept.set(TOKEN, text);
  become({ question: "none", epoch: state.epoch + 1 });
}

/** Asks the user for another token: the one that is shown is good, and does not have the rights. */
export function askForAnotherToken(): void {
  if (state.question === "none") become({ question: "another" });
}

/** The token that is shown stays. */
export function keepToken(): void {
  if (state.question === "another") become({ question: "none" });
}

/** True if another token might have the rights that this one does not have. */
export function lacksRights(error: Error): boolean {
  return error instanceof Refused && error.status === 403 && token() !== null;
}

export interface Asked {
  method?: string;
  body?: string;
  signal?: AbortSignal;
  patience?: number;
}

async function ask<T>(path: string, asked: Asked, read: (answer: Response) => Promise<T>): Promise<T> {
  const shown = token();
  return sent(path, asked, shown, (answer) => taken(answer, shown, read));
}

async function taken<T>(answer: Response, shown: string | null, read: (answer: Response) => Promise<T>): Promise<T> {
  // What a proxy says when the server behind it does not answer.
  if (answer.status === 502 || answer.status === 504) {
    become({ standing: "gone" });
    throw new Gone(`status ${answer.status}`);
  }
  if (state.standing !== "there") {
    become({ standing: "there", epoch: state.standing === "gone" ? state.epoch + 1 : state.epoch });
  }
  if (answer.ok) return read(answer);
  // Another token may have been given while this was on its way.
  if (answer.status === 401 && shown === token()) become({ question: "needed" });
  throw new Refused(answer.status, errorText(await answer.text(), answer.status));
}

/** Sends a request; `take` reads its answer to the end, for which there is no more patience than for its beginning. */
async function sent<T>(path: string, asked: Asked, shown: string | null, take: (answer: Response) => Promise<T>): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json, */*" };
  // A header has no other characters; a token that has some is wrong anyway.
  if (shown !== null && /^[\x21-\x7e]+$/.test(shown)) headers["Authorization"] = `Bearer ${shown}`;
  if (asked.body !== undefined) headers["Content-Type"] = "application/json";
  const ending = new AbortController();
  const end = (): void => ending.abort();
  asked.signal?.addEventListener("abort", end);
  const timer = asked.patience === undefined ? undefined : setTimeout(end, asked.patience);
  try {
    const answer = await fetch(path, {
      method: asked.method ?? "GET",
      headers,
      body: asked.body ?? null,
      signal: ending.signal,
      cache: "no-store",
      credentials: "same-origin",
    });
    return await take(answer);
  } catch (error) {
    if (asked.signal?.aborted) throw error;
    // It was an answer, though perhaps none of Servable's.
    if (error instanceof Refused || error instanceof Gone || error instanceof SyntaxError) throw error;
    become({ standing: "gone" });
    throw new Gone(String(error));
  } finally {
    clearTimeout(timer);
    asked.signal?.removeEventListener("abort", end);
  }
}

/** The `error` of a body that has one, otherwise its beginning. */
export function errorText(body: string, status: number): string {
  try {
    const content: unknown = JSON.parse(body);
    if (content !== null && typeof content === "object" && "error" in content) return String(content.error);
  } catch {
    // Not JSON: something else than Servable has answered.
  }
  return body.trim().slice(0, 2000) || `Status ${status}`;
}

export async function text(path: string, asked: Asked = {}): Promise<string> {
  return ask(path, asked, (answer) => answer.text());
}

export async function json<T>(path: string, asked: Asked = {}): Promise<T> {
  return ask(path, asked, (answer) => answer.json() as Promise<T>);
}

export async function blob(path: string, asked: Asked = {}): Promise<Blob> {
  return ask(path, asked, (answer) => answer.blob());
}

export interface Polled<T> {
  data: T | undefined;
  error: Refused | undefined;
  /** Asks again at once. */
  again: () => void;
}

interface Seen<T> {
  path: string | null;
  data?: T;
  error?: Refused;
}

/** What was seen before stays beside an error, unless there is nothing any more. */
function troubled<T>(before: Seen<T>, path: string, error: Refused): Seen<T> {
  const kept = before.path === path && error.status !== 404;
  return kept && before.data !== undefined ? { path, data: before.data, error } : { path, error };
}

/** What is at `path` (null: nothing), asked for every `every` ms while the page can be seen. */
export function usePolled<T>(path: string | null, every: number): Polled<T> {
  const { epoch } = useConnection();
  const [seen, setSeen] = useState<Seen<T>>({ path });
  const [asked, setAsked] = useState(0);
  useEffect(() => {
    if (path === null) return undefined;
    const ending = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const poll = async (): Promise<void> => {
      let pause = every;
      try {
        // Until there is a token, every answer would be the same.
        if (!document.hidden && state.question !== "needed") {
          const data = await json<T>(path, { signal: ending.signal, patience: PATIENCE_MS });
          setSeen({ path, data });
        }
      } catch (error) {
        if (ending.signal.aborted) return;
        pause = Math.min(every, RETRY_MS);
        const refused = error instanceof Refused ? error : error instanceof Gone ? undefined : new Refused(0, String(error));
        if (refused && refused.status !== 401) setSeen((before) => troubled(before, path, refused));
      }
      if (!ending.signal.aborted) timer = setTimeout(() => void poll(), pause);
    };
    const shown = (): void => {
      if (document.hidden) return;
      clearTimeout(timer);
      timer = setTimeout(() => void poll(), 0);
    };
    document.addEventListener("visibilitychange", shown);
    void poll();
    return () => {
      ending.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [path, every, epoch, asked]);
  const current = seen.path === path;
  return {
    data: current ? seen.data : undefined,
    error: current ? seen.error : undefined,
    again: () => setAsked((count) => count + 1),
  };
}
