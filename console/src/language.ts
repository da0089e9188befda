// The browser's language, where its name is none: Chromium without a locale (LANG=C) says "en-US@posix", which Intl refuses.
// The charts' library hands it to Intl when it is imported, and the page would stay empty. So this is imported before.
import { isLanguage } from "./format";

if (!isLanguage(navigator.language)) Object.defineProperty(navigator, "language", { value: "en-US" });
