// The page's places, which are hashes: `#/models/NAME`. Names are percent-encoded.
import { useEffect, useState } from "preact/hooks";
import { segment } from "./api";

export type Place =
  | { page: "models" }
  | { page: "model"; name: string }
  | { page: "try"; name: string | null }
  | { page: "traffic"; name: string | null }
  | { page: "manage" }
  | { page: "unknown" };

export function placeOf(hash: string): Place {
  const path = hash.replace(/^#?\/?/, "");
  const slash = path.indexOf("/");
  const page = slash < 0 ? path : path.slice(0, slash);
  const rest = slash < 0 ? "" : path.slice(slash + 1);
  let name: string | null;
  try {
    name = rest === "" ? null : decodeURIComponent(rest);
  } catch {
    return { page: "unknown" };
  }
  if (page === "" && name === null) return { page: "models" };
  if (page === "models") return name === null ? { page: "models" } : { page: "model", name };
  if (page === "try" || page === "traffic") return { page, name };
  if (page === "manage" && name === null) return { page };
  return { page: "unknown" };
}

export function hashOf(place: Place): string {
  switch (place.page) {
    case "model":
      return `#/models/${segment(place.name)}`;
    case "try":
    case "traffic":
      return place.name === null ? `#/${place.page}` : `#/${place.page}/${segment(place.name)}`;
    case "manage":
      return "#/manage";
    case "models":
    case "unknown":
      return "#/models";
  }
}

export function usePlace(): Place {
  const [place, setPlace] = useState(() => placeOf(location.hash));
  useEffect(() => {
    const changed = (): void => setPlace(placeOf(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return place;
}

export function go(place: Place): void {
  location.hash = hashOf(place);
}
