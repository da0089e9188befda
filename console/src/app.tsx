// The frame of the page: the way to its pages, the server's condition, the theme, the question for a token.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { paths, type ServerInfo } from "./api";
import { askForAnotherToken, giveToken, keepToken, token, useConnection, usePolled, type Standing } from "./connection";
import { cut, plain } from "./format";
import { ManagePage } from "./pages/manage";
import { ModelPage } from "./pages/model";
import { ModelsPage } from "./pages/models";
import { TrafficPage } from "./pages/traffic";
import { TryPage } from "./pages/try";
import { announce, Announcer, Dialog, Empty } from "./parts/basics";
import { hashOf, usePlace, type Place } from "./router";
import { texts } from "./texts";
import { nextTheme, useTheme } from "./theme";

const EVERY_MS = 2000;

export function App(): JSX.Element {
  const place = usePlace();
  const { standing, question } = useConnection();
  const { data: server } = usePolled<ServerInfo>(paths.server, EVERY_MS);
  const main = useRef<HTMLElement>(null);
  useTitle(place, main);
  useNews(standing);
  return (
    <>
      <a
        class="skip"
        href="#content"
        onClick={(event) => {
          // The hash is the place; it stays.
          event.preventDefault();
          main.current?.focus();
        }}
      >
        {texts.skip}
      </a>
      <Header place={place} server={server} standing={standing} />
      {standing === "gone" && (
        <div class="banner" role="alert">
          {texts.server.goneBanner}
        </div>
      )}
      <main id="content" ref={main} tabIndex={-1}>
        <Content place={place} server={server} />
      </main>
      <Announcer />
      {question !== "none" && <TokenDialog key={question} another={question === "another"} />}
    </>
  );
}

function Content({ place, server }: { place: Place; server: ServerInfo | undefined }): JSX.Element {
  switch (place.page) {
    case "models":
      return <ModelsPage server={server} />;
    case "model":
      return <ModelPage key={place.name} name={place.name} manages={server?.manage === true} />;
    case "try":
      return <TryPage key={place.name} name={place.name} server={server} />;
    case "traffic":
      return <TrafficPage name={place.name} />;
    case "manage":
      return <ManagePage server={server} />;
    case "unknown":
      return <Empty title={texts.unknownPage} />;
  }
}

/** The document's title; and the place's heading gets the focus, but for the first. */
function useTitle(place: Place, main: { current: HTMLElement | null }): void {
  const first = useRef(true);
  const hash = hashOf(place);
  useEffect(() => {
    const page = place.page === "model" ? plain(place.name, 60) : place.page === "unknown" ? "" : texts.pages[place.page];
    document.title = page === "" ? texts.title : `${page} – ${texts.title}`;
    if (!first.current) {
      scrollTo(0, 0);
      (main.current?.querySelector<HTMLElement>("h1") ?? main.current)?.focus({ preventScroll: true });
    }
    first.current = false;
  }, [hash]);
}

function useNews(standing: Standing): void {
  const before = useRef(standing);
  useEffect(() => {
    if (before.current === "gone" && standing === "there") announce(texts.server.back);
    before.current = standing;
  }, [standing]);
}

const PAGES: { page: keyof typeof texts.pages; place: Place; also?: Place["page"] }[] = [
  { page: "models", place: { page: "models" }, also: "model" },
  { page: "try", place: { page: "try", name: null } },
  { page: "traffic", place: { page: "traffic", name: null } },
  { page: "manage", place: { page: "manage" } },
];

function Header({ place, server, standing }: { place: Place; server: ServerInfo | undefined; standing: Standing }): JSX.Element {
  return (
    <header>
      <div class="top">
        <a class="brand" href="#/models">
          <Logo />
          {texts.title}
        </a>
        <nav aria-label={texts.navigation}>
          {PAGES.map(({ page, place: to, also }) => (
            <a key={page} href={hashOf(to)} aria-current={place.page === to.page || place.page === also ? "page" : undefined}>
              {texts.pages[page]}
            </a>
          ))}
        </nav>
        <div class="status">
          <span class={`dot ${standing}`} aria-hidden="true" />
          <span class="status-text">
            {standing === "starting" ? texts.server.starting : standing === "gone" ? texts.server.gone : texts.server.there}
            {server && standing === "there" && <span class="quiet"> · {cut(server.version, 30)}</span>}
          </span>
          {token() !== null && <TokenButton />}
          <ThemeButton />
        </div>
      </div>
    </header>
  );
}

function Logo(): JSX.Element {
  return (
    <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
      <rect width="32" height="32" rx="8" class="logo-ground" />
      <path d="M7 12.5h18M7 19.5h11" class="logo-lines" />
      <circle cx="23.5" cy="19.5" r="2" class="logo-dot" />
    </svg>
  );
}

function TokenButton(): JSX.Element {
  return (
    <button type="button" class="icon" aria-label={texts.token.another} title={texts.token.another} onClick={askForAnotherToken}>
      <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
        <circle cx="6.5" cy="13.5" r="3.5" fill="none" stroke="currentColor" stroke-width="1.6" />
        <path d="M9 11L16 4M13 7l2.5 2.5M11 9l1.5 1.5" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" />
      </svg>
    </button>
  );
}

function ThemeButton(): JSX.Element {
  const { theme } = useTheme();
  return (
    <button type="button" class="icon" aria-label={texts.theme[theme]} title={texts.theme[theme]} onClick={nextTheme}>
      <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
        {theme === "dark" ? (
          <path d="M16 12.5A7 7 0 0 1 7.5 4a7 7 0 1 0 8.5 8.500z" fill="currentColor" />
        ) : theme === "light" ? (
          <>
            <circle cx="10" cy="10" r="3.6" fill="currentColor" />
            <path d="M10 2v2M10 16v2M2 10h2M16 10h2M4.3 4.300l1.4 1.400M14.3 14.300l1.4 1.400M4.3 15.700l1.4-1.400M14.3 5.700l1.4-1.4" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" />
          </>
        ) : (
          <>
            <circle cx="10" cy="10" r="6.5" fill="none" stroke="currentColor" stroke-width="1.6" />
            <path d="M10 3.500a6.5 6.5 0 0 1 0 13z" fill="currentColor" />
          </>
        )}
      </svg>
    </button>
  );
}

function TokenDialog({ another }: { another: boolean }): JSX.Element {
  const [text, setText] = useState("");
  const [refused] = useState(() => !another && token() !== null);
  const submit = (event: Event): void => {
    event.preventDefault();
    if (text.trim() !== "") giveToken(text.trim());
  };
  return (
    <Dialog title={another ? texts.token.another : texts.token.title} {...(another ? { onClose: keepToken } : {})}>
      <form onSubmit={submit}>
        <p>{another ? texts.token.anotherExplain : texts.token.explain}</p>
        {refused && (
          <p class="notice bad" role="alert">
            {texts.token.refused}
          </p>
        )}
        <label class="field">
          <span>{texts.token.label}</span>
          <input type="password" autocomplete="off" spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <div class="actions">
          {another && (
            <button type="button" onClick={keepToken}>
              {texts.cancel}
            </button>
          )}
          <button class="main">{texts.token.submit}</button>
        </div>
      </form>
    </Dialog>
  );
}
