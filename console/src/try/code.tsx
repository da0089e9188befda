// The call as lines to copy, in the language of choice.
import type { JSX } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import { CopyButton } from "../parts/basics";
import { save } from "../parts/download";
import { texts } from "../texts";
import { REQUEST_FILE, type Snippet } from "./snippets";

interface CodeProps {
  snippets: Snippet[];
  /** The request's body, which long code reads from a file. */
  request: () => string;
  needsToken: boolean;
}

export function Code({ snippets, request, needsToken }: CodeProps): JSX.Element {
  const [language, setLanguage] = useState<Snippet["language"]>("curl");
  const id = useId();
  const tabs = useRef<HTMLDivElement>(null);
  const chosen = snippets.find((one) => one.language === language) ?? snippets[0];
  if (chosen === undefined) return <p class="quiet">{texts.try.codeNeedsInput}</p>;
  const move = (event: KeyboardEvent): void => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step === 0) return;
    event.preventDefault();
    const at = snippets.indexOf(chosen);
    const next = (at + step + snippets.length) % snippets.length;
    setLanguage(snippets[next]?.language ?? "curl");
    tabs.current?.querySelectorAll<HTMLElement>("[role=tab]")[next]?.focus();
  };
  return (
    <>
      <div class="tabs" role="tablist" aria-label={texts.try.code} ref={tabs} onKeyDown={move}>
        {snippets.map((one) => (
          <button
            key={one.language}
            type="button"
            role="tab"
            id={`${id}-${one.language}`}
            aria-selected={one === chosen}
            aria-controls={`${id}-code`}
            tabIndex={one === chosen ? 0 : -1}
            onClick={() => setLanguage(one.language)}
          >
            {one.title}
          </button>
        ))}
      </div>
      <div class="code-block" role="tabpanel" id={`${id}-code`} aria-labelledby={`${id}-${chosen.language}`}>
        <CopyButton text={chosen.code} />
        <pre tabIndex={0} dir="ltr" data-language={chosen.language} aria-label={chosen.title}>
          {chosen.code}
        </pre>
      </div>
      {chosen.needsRequestFile && (
        <p class="hint">
          {texts.try.requestFile(REQUEST_FILE)}{" "}
          <button type="button" class="small" onClick={() => save(new Blob([request()], { type: "application/json" }), REQUEST_FILE)}>
            {texts.try.downloadRequest}
          </button>
        </p>
      )}
      {needsToken && <p class="hint">{texts.try.tokenHint}</p>}
    </>
  );
}
