/** Reports usage to Marketplace SaaS from an outbox on disk, and calls its seller API. */

export { fromEnvironment, type AnswerOf, type Credentials, type CredentialsProvider, type Given } from "./api.js";
export { Client, type Options } from "./client.js";
export type { Delivery, Listener } from "./delivery.js";
export { ApiError, ClientError, NoAnswerError, NoCredentialsError } from "./errors.js";
export type { Rejected, Status } from "./outbox.js";
export type { UsageRecord } from "./records.js";
export type { components, operations, paths } from "./schema.js";
