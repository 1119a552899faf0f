// The name that a record's bytes give themselves: `resourceType` and `id` of a JSON object, each there once.
//
// `JSON.parse` would not do: of members that stand twice it keeps one without a word. Nothing here recurses, so that no nesting is too deep.

/** `Type/id` as the bytes themselves say it, when they are a JSON object that has both. */
export function resourceName(bytes: Uint8Array): string | undefined {
  const text = utf8(bytes);
  if (text === undefined) return undefined;
  const scanner = new Scanner(text);
  const names = new Map<string, string>();
  const held = scanner.object((member) => {
    const isName = member === "resourceType" || member === "id";
    if (!isName) return scanner.skip();
    const value = scanner.string();
    if (value === undefined || names.has(member)) return false;
    names.set(member, value);
    return true;
  });
  const [type, id] = [names.get("resourceType"), names.get("id")];
  return held && scanner.isAtEnd() && type !== undefined && id !== undefined ? `${type}/${id}` : undefined;
}

/** A walk over JSON text by the grammar of RFC 8259. */
class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Reads an object; `member` reads the value of each member, and says whether it could. */
  object(member: (name: string) => boolean): boolean {
    if (!this.#eat("{")) return false;
    if (this.#eat("}")) return true;
    do {
      const name = this.string();
      if (name === undefined || !this.#eat(":") || !member(name)) return false;
    } while (this.#eat(","));
    return this.#eat("}");
  }

  /** Reads a string, which must be Unicode: half a surrogate pair names nothing. */
  string(): string | undefined {
    this.#skipWhitespace();
    const from = this.#at;
    if (!this.#skipString()) return undefined;
    const value: unknown = JSON.parse(this.#text.slice(from, this.#at));
    return typeof value === "string" && !/\p{Surrogate}/u.test(value) ? value : undefined;
  }

  /** Skips one value of any kind. */
  skip(): boolean {
    // What closes the brackets that are open, outermost first.
    const open: ("}" | "]")[] = [];
    for (;;) {
      if (this.#eat("{")) {
        if (!this.#eat("}")) {
          open.push("}");
          if (!this.#skipName()) return false;
          continue;
        }
      } else if (this.#eat("[")) {
        if (!this.#eat("]")) {
          open.push("]");
          continue;
        }
      } else if (!this.#skipScalar()) {
        return false;
      }
      // A value has ended, and with it every bracket that closes now.
      for (;;) {
        const closing = open.at(-1);
        if (closing === undefined) return true;
        if (this.#eat(",")) {
          if (closing === "}" && !this.#skipName()) return false;
          break;
        }
        if (!this.#eat(closing)) return false;
        open.pop();
      }
    }
  }

  /** Whether nothing but white space is left. */
  isAtEnd(): boolean {
    this.#skipWhitespace();
    return this.#at === this.#text.length;
  }

  #skipName(): boolean {
    this.#skipWhitespace();
    return this.#skipString() && this.#eat(":");
  }

  #skipScalar(): boolean {
    this.#skipWhitespace();
    if (this.#text[this.#at] === '"') return this.#skipString();
    const word = WORDS.find((word) => this.#text.startsWith(word, this.#at));
    if (word === undefined) return this.#skipNumber();
    this.#at += word.length;
    return true;
  }

  #skipString(): boolean {
    if (this.#text[this.#at] !== '"') return false;
    this.#at += 1;
    for (;;) {
      const character = this.#text[this.#at];
      if (character === undefined || character < " ") return false;
      this.#at += 1;
      if (character === '"') return true;
      if (character === "\\" && !this.#skipEscape()) return false;
    }
  }

  #skipEscape(): boolean {
    const escape = this.#text[this.#at] ?? "";
    this.#at += 1;
    if (escape !== "u") return escape !== "" && '"\\/bfnrt'.includes(escape);
    const digits = this.#text.slice(this.#at, this.#at + 4);
    this.#at += 4;
    return /^[0-9a-fA-F]{4}$/.test(digits);
  }

  #skipNumber(): boolean {
    this.#skipOne("-");
    // A number that begins with a zero has no further digits before its point.
    if (!this.#skipOne("0") && !this.#skipDigits()) return false;
    if (this.#skipOne(".") && !this.#skipDigits()) return false;
    if (!this.#skipOne("eE")) return true;
    this.#skipOne("+-");
    return this.#skipDigits();
  }

  /** Skips digits, at least one. */
  #skipDigits(): boolean {
    if (!this.#skipOne(DIGITS)) return false;
    while (this.#skipOne(DIGITS));
    return true;
  }

  #skipOne(characters: string): boolean {
    const character = this.#text[this.#at];
    if (character === undefined || !characters.includes(character)) return false;
    this.#at += 1;
    return true;
  }

  #eat(character: string): boolean {
    this.#skipWhitespace();
    return this.#skipOne(character);
  }

  #skipWhitespace(): void {
    while (this.#skipOne(WHITESPACE));
  }
}

const WHITESPACE = " \t\n\r";
const DIGITS = "0123456789";
const WORDS = ["null", "true", "false"];

function utf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
