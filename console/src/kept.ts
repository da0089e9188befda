// What the browser keeps for the page. Where it may keep nothing (blocked cookies, a sandbox), the page does, as long as it is open.

export interface Kept {
  get: (key: string) => string | null;
  set: (key: string, value: string) => void;
}

/** `storage` may throw, and so may everything of what it returns. */
export function keptIn(storage: () => Pick<Storage, "getItem" | "setItem">): Kept {
  const own = new Map<string, string>();
  return {
    get: (key) => {
      try {
        return storage().getItem(key) ?? own.get(key) ?? null;
      } catch {
        return own.get(key) ?? null;
      }
    },
    set: (key, value) => {
      own.set(key, value);
      try {
        storage().setItem(key, value);
      } catch {
        // It is full, or may not be used.
      }
    },
  };
}
