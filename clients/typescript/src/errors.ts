/** What the client throws. */

export class ClientError extends Error {
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** There are no AWS credentials to sign with. */
export class NoCredentialsError extends ClientError {}

/**
 * The API gave no answer that says anything: no connection, a timeout, a status of 429 or 5xx, a body that can't be
 * read. Repeating is safe. `retryAfter` is in seconds, if the answer named it; `isAskedToWait`: the API said that it is
 * too busy.
 */
export class NoAnswerError extends ClientError {
  constructor(
    message: string,
    readonly retryAfter?: number,
    readonly isAskedToWait: boolean = false,
  ) {
    super(message);
  }
}

/**
 * The API refused the request. `code` is stable (docs/integration.md lists the codes) and empty in an answer of API
 * Gateway itself; `details` are the other members of the error.
 */
export class ApiError extends ClientError {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly reason: string,
    readonly details: Readonly<Record<string, unknown>>,
  ) {
    super(`${status} ${code || "from API Gateway"}: ${reason}`);
  }
}
