// Package queuetest tries a worker of a job queue. [Run] puts messages into the queue and
// starts two worker processes, which it kills every few seconds, and a fake API that goes
// down, takes the token for expired, breaks connections and answers in HTML. At the end it
// counts, at the API, what arrived, what arrived twice, and what never did.
package queuetest
