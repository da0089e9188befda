// The small parts of every page: names, badges, facts, notices, buttons that copy, dialogs, announcements.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { cut, LONGEST_NAME, LONGEST_TITLE, plain } from "../format";
import { texts } from "../texts";
import { askForAnotherToken, lacksRights, Refused } from "../connection";

/** Text from outside: isolated from the direction of what is around it, and cut to a length. */
export function Name({ text, most = LONGEST_NAME }: { text: string; most?: number }): JSX.Element {
  return (
    <bdi class="name" title={text.length > most ? plain(text, LONGEST_TITLE) : undefined}>
      {cut(text, most)}
    </bdi>
  );
}

/** Longer text from outside, with its lines. */
export function Prose({ text, most = 4000 }: { text: string; most?: number }): JSX.Element {
  return (
    <p class="prose" dir="auto">
      {cut(text, most)}
    </p>
  );
}

type Tone = "good" | "busy" | "bad" | "calm";

const TONES: Record<string, Tone> = {
  available: "good",
  failed: "bad",
  failing: "bad",
  missing: "bad",
  hanging: "bad",
  loading: "busy",
  start: "busy",
  waiting: "busy",
  unloading: "busy",
};

export function toneOf(state: string, failed: boolean): Tone {
  const word = state.toLowerCase();
  if (failed && word === "end") return "bad";
  return Object.hasOwn(TONES, word) ? (TONES[word] ?? "calm") : "calm";
}

export function Badge({ state, failed = false, children }: { state: string; failed?: boolean; children?: ComponentChildren }): JSX.Element {
  return (
    <span class={`badge ${toneOf(state, failed)}`}>
      {children}
      <span>{failed && state === "END" ? texts.failed : cut(state.toLowerCase(), 30)}</span>
    </span>
  );
}

export function Facts({ facts }: { facts: [string, ComponentChildren | undefined][] }): JSX.Element {
  return (
    <dl class="facts">
      {facts
        .filter(([, value]) => value !== undefined && value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Trouble({ error }: { error: Error }): JSX.Element {
  return (
    <div class="notice bad" role="alert">
      <Prose text={error.message} />
      {error instanceof Refused && <p class="quiet">{texts.failedRequest(error.status)}</p>}
      {lacksRights(error) && (
        <>
          <p>{texts.token.lacksRights}</p>
          <button type="button" onClick={askForAnotherToken}>
            {texts.token.another}
          </button>
        </>
      )}
    </div>
  );
}

export function Waiting(): JSX.Element {
  return <p class="quiet waiting">{texts.loading}</p>;
}

export function Lead({ title, children, lead }: { title: ComponentChildren; children?: ComponentChildren; lead?: ComponentChildren }): JSX.Element {
  return (
    <div class="lead">
      <div class="lead-text">
        <h1 tabIndex={-1}>{title}</h1>
        {lead !== undefined && <div class="quiet">{lead}</div>}
      </div>
      {children !== undefined && <div class="lead-actions">{children}</div>}
    </div>
  );
}

/** A region that scrolls by itself, which the keyboard can reach. */
export function Scrolling({ label, children }: { label: string; children: ComponentChildren }): JSX.Element {
  return (
    <div class="scrolling" role="region" aria-label={label} tabIndex={0}>
      {children}
    </div>
  );
}

export function CopyButton({ text }: { text: string }): JSX.Element {
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      announce(texts.copied);
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    } catch {
      announce(texts.notCopied);
    }
  };
  const [done, setDone] = useState(false);
  return (
    <button type="button" class="small" onClick={() => void copy()}>
      {done ? texts.copied : texts.copy}
    </button>
  );
}

/** Without `onClose` it stays until it is taken away. */
export function Dialog({ title, onClose, children }: { title: string; onClose?: () => void; children: ComponentChildren }): JSX.Element {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    const dialog = element.current;
    if (dialog !== null && !dialog.open) dialog.showModal();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={element}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose?.();
      }}
      onClose={(event) => {
        // Browsers close dialogs at the second Escape, whatever a page says to the first.
        const dialog = event.currentTarget;
        if (!dialog.isConnected) return;
        if (onClose) onClose();
        else dialog.showModal();
      }}
    >
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}

// ---- announcements: said by screen readers, and shown for a while

let say: (text: string, seen: boolean) => void = () => undefined;

/** Says what has happened; `seen`: shows it, too, as the page does not show it elsewhere. */
export function announce(text: string, seen = true): void {
  say(text, seen);
}

export function Announcer(): JSX.Element {
  const [said, setSaid] = useState({ text: "", seen: true, count: 0 });
  useEffect(() => {
    say = (text, seen) => setSaid((before) => ({ text, seen, count: before.count + 1 }));
  }, []);
  useEffect(() => {
    if (said.text === "") return undefined;
    const timer = setTimeout(() => setSaid((before) => ({ ...before, text: "" })), 5000);
    return () => clearTimeout(timer);
  }, [said]);
  return (
    <div class={said.text !== "" && said.seen ? "toast shown" : "toast"} role="status" dir="auto">
      {cut(said.text, 300)}
    </div>
  );
}
