// Light, dark, or as the system is: an attribute of the document that the style sheet knows.
import { useEffect, useState } from "preact/hooks";
import { keptIn } from "./kept";

const KEY = "servable-theme";
const kept = keptIn(() => localStorage);
export type Theme = "system" | "light" | "dark";
const ORDER: Theme[] = ["system", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

function stored(): Theme {
  const found = kept.get(KEY);
  return found === "light" || found === "dark" ? found : "system";
}

let theme: Theme = stored();

function apply(): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  for (const listener of listeners) listener();
}

dark.addEventListener("change", apply);
apply();

export function nextTheme(): void {
  theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length] ?? "system";
  kept.set(KEY, theme);
  apply();
}

/** The choice, and what is in force. */
export function useTheme(): { theme: Theme; isDark: boolean } {
  const now = (): { theme: Theme; isDark: boolean } => ({ theme, isDark: theme === "dark" || (theme === "system" && dark.matches) });
  const [seen, setSeen] = useState(now);
  useEffect(() => {
    const changed = (): void => setSeen(now());
    listeners.add(changed);
    changed();
    return () => {
      listeners.delete(changed);
    };
  }, []);
  return seen;
}
