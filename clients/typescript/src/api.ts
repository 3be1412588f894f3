/** One request to the API: signed, sent by fetch, its answer read. Nothing is repeated here. */

import { AwsV4Signer } from "aws4fetch";
import { ApiError, NoAnswerError, NoCredentialsError } from "./errors.js";
import type { paths } from "./schema.js";

/** Marketplace SaaS is deployed in this region only. */
const REGION = "us-east-1";
/** API Gateway answers within 30 seconds. */
const TIMEOUT_MS = 40_000;

export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string | undefined;
}

/** Asked before every request, so that credentials may be renewed. The providers of the AWS SDK have this type. */
export type CredentialsProvider = () => Promise<Credentials>;

export type Method = "GET" | "POST";
type Described = { responses: { 200: { content: { "application/json": unknown } } } };
type OperationAt<M extends Method, P extends keyof paths> = paths[P][Lowercase<M>];

/** The paths of the API that take a method. */
export type PathOf<M extends Method> = {
  [P in keyof paths]: OperationAt<M, P> extends Described ? P : never;
}[keyof paths];

type Filled<T> = T extends undefined ? unknown : T;
type Parameters<O, K extends string> = O extends { parameters: { [_ in K]: infer V } } ? { [_ in K]: V } : unknown;
type OptionalQuery<O> = O extends { parameters: { query?: infer V } } ? { query?: Filled<V> } : unknown;
type Body<O> = O extends { requestBody: { content: { "application/json": infer V } } } ? { body: V } : unknown;

/** What a request of an operation is given: the values in its path, its query and its body. */
export type Given<M extends Method, P extends PathOf<M>> = Parameters<OperationAt<M, P>, "path"> &
  OptionalQuery<OperationAt<M, P>> &
  Body<OperationAt<M, P>>;

/** The body of a good answer. */
export type AnswerOf<M extends Method, P extends PathOf<M>> =
  OperationAt<M, P> extends { responses: { 200: { content: { "application/json": infer V } } } } ? V : never;

type Untyped = { path?: Record<string, string>; query?: Record<string, unknown>; body?: unknown };

/** Credentials from the variables that Lambda sets, and a person's shell. */
export const fromEnvironment: CredentialsProvider = async () => {
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = process.env;
  if (!AWS_ACCESS_KEY_ID || !AWS_SECRET_ACCESS_KEY) {
    throw new NoCredentialsError(
      "there are no AWS credentials in the environment; pass `credentials`, for example fromNodeProviderChain() of " +
        "@aws-sdk/credential-providers",
    );
  }
  return { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY, sessionToken: AWS_SESSION_TOKEN };
};

export class Api {
  readonly #url: string;

  constructor(
    url: string,
    readonly credentials: CredentialsProvider,
    readonly now: () => Date,
  ) {
    this.#url = url.replace(/\/+$/, "");
  }

  /** Send a request once. Throws NoCredentialsError, ApiError or NoAnswerError. */
  async exchange<M extends Method, P extends PathOf<M>>(
    method: M,
    path: P,
    given: Given<M, P>,
  ): Promise<AnswerOf<M, P>> {
    const { body, ...target } = given as Untyped;
    const content = body === undefined ? undefined : JSON.stringify(body);
    return (await this.send(method, targetOf(path, target), content)) as AnswerOf<M, P>;
  }

  /** The same, with the path and the body as text. */
  async send(method: Method, target: string, content?: string): Promise<unknown> {
    const signer = new AwsV4Signer({
      ...(await this.credentials()),
      method,
      url: this.#url + target,
      headers: { accept: "application/json", ...(content === undefined ? {} : { "content-type": "application/json" }) },
      ...(content === undefined ? {} : { body: content }),
      service: "execute-api",
      region: REGION,
    } as ConstructorParameters<typeof AwsV4Signer>[0]);
    const { url, headers } = await signer.sign();
    let response: Response;
    let text: string;
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      response = await fetch(url, { method, headers, body: content ?? null, signal, redirect: "manual" });
      text = await response.text();
    } catch (error) {
      throw new NoAnswerError(`no answer: ${String((error as Error).cause ?? error)}`);
    }
    return this.#read(response, text);
  }

  #read(response: Response, text: string): unknown {
    const body = parsed(text);
    if (response.status === 200 && body !== undefined) {
      return body;
    }
    const object = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
    const error = (typeof object["error"] === "object" && object["error"] !== null ? object["error"] : {}) as Record<string, unknown>;
    const { code = "", message = object["message"] ?? "", ...details } = error;
    if (response.status === 200 || response.status === 429 || response.status >= 500) {
      const isBusy = response.status === 429 || response.status === 503;
      throw new NoAnswerError(`${response.status} ${code} ${message}`.trim(), this.#retryAfter(response), isBusy);
    }
    throw new ApiError(response.status, String(code), String(message), details);
  }

  /** RFC 9110, section 10.2.3: seconds, or a date. */
  #retryAfter(response: Response): number | undefined {
    const given = response.headers.get("retry-after")?.trim() ?? "";
    if (/^[0-9]+$/.test(given)) {
      return Number(given);
    }
    const until = Date.parse(given);
    return Number.isNaN(until) ? undefined : Math.max(0, (until - this.now().getTime()) / 1000);
  }
}

function targetOf(path: string, given: Untyped): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encoded(given.path?.[name] ?? ""));
  const query = Object.entries(given.query ?? {}).filter(([, value]) => value !== undefined && value !== null);
  const pairs = query.map(([name, value]) => `${escaped(name)}=${escaped(String(value))}`);
  return pairs.length > 0 ? `${filled}?${pairs.join("&")}` : filled;
}

/** API Gateway decodes a path once and cuts it at a "?", so a value with such a character is encoded twice. */
function encoded(value: string): string {
  const once = escaped(value);
  return /[?#%]/.test(value) ? escaped(once) : once;
}

/** RFC 3986: everything is encoded that is not unreserved. */
function escaped(value: string): string {
  return encodeURIComponent(value).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
