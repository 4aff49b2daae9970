// Package outbox is a durable queue of WhatsApp messages on NATS JetStream, for
// messages that must outlive the process and the outage.
//
//	server, err := outbox.Embedded("/var/lib/reminders")
//	o, err := outbox.Open(ctx, server.JetStream(), nil, outbox.WithAccessToken(token))
//	err = o.Enqueue(ctx, "reminder-4711", phoneNumberID, payload)
//	err = o.Run(ctx) // here, or on any number of other machines
//
// What becomes of a failure is decided by a [graphretry.Policy], as in a
// [graphretry.Transport]; the waits are spent in the queue.
//
// # The life of a message
//
// [Outbox.Enqueue] writes the message's record, its payload and its entry in the queue,
// all three or none: [StateQueued].
// A worker in [Outbox.Run] takes the entry, waits for the API if that is down, writes
// [StateSending] into the record, and sends. The answer decides:
//
//   - Meta has taken it: [StateSent].
//   - A Graph error, which says that it was not sent: back to StateQueued until
//     the policy's wait is over, or [StateFailed]. The limits that soon pass
//     ([graphretry.WithThrottleRetries]) are always waited for.
//   - No connection was made, so nothing was sent: back to StateQueued.
//   - An answer that is about the phone number and not the message, such as an
//     expired token or a proxy's 407: back to StateQueued.
//   - Anything else, such as a connection that broke, a timeout, or a gateway's
//     502: [StateUnknown]. It is not sent again.
//
// A worker that dies, or is cut off from JetStream, leaves StateSending behind.
// JetStream then delivers the entry to another one, which finds that, and makes
// the message StateUnknown.
//
// # Lanes
//
// The messages of one phone number are a lane, with a rate of its own that all machines
// share: [WithRate]. Lanes take turns with the workers.
// After 3 ends in a row that say nothing of the message, ambiguous ones among them,
// a process holds the lane: its messages stay in the queue, and one at a time goes out
// as a probe, after the intervals of the schedule: 5, 10, 20 s and on, up to 3 minutes.
// Any other answer releases the lane. So an expired token fails
// no message, and a gateway that is down leaves in doubt only those that were under
// way at the time, and one for each probe. Where every lane is held for an ambiguous
// reason, one probe serves all. Each process finds out for itself.
//
// # Waits
//
// A message that is not due is not with a worker: its entry is a message schedule of the
// server, which puts it into the queue at its time, also after a restart. If one
// comes too early, the record decides, and the entry is scheduled again. Each Run looks
// once a minute for entries that JetStream takes for done and that still stand there, as
// after the loss of a cluster's leader, and puts them into the queue anew. What waits
// needs no memory of the workers, and keeps nothing of another lane out.
//
// # Nothing is sent twice
//
// The record is only ever changed by compare-and-set, and StateSending is written
// right before each attempt, beneath the transport and its outage gate. So no
// second attempt is made while one may have reached Meta, whoever dies when; and a
// process that dies while waiting for the API to come back leaves nothing in
// doubt.
//
// This relies on Meta: a Graph error of a retried code is taken for
// "not sent". Meta's documentation says so, but does not guarantee it. If a message that
// arrives twice is worse than one that never does, have such codes not retried:
// [graphretry.WithoutRetryOn] in [WithTransportOptions].
//
// # Unknown messages
//
// [Outbox.HandleWebhook] settles them, since Meta's status webhooks carry the id
// of the message. [Outbox.Unknown] lists those that no webhook has settled: of
// these most were never taken. [Outbox.Resend] and [Outbox.Drop] are a person's
// decision.
//
// # Urgent messages, and order
//
// [Urgent] messages have a queue of their own in their lane, which goes first, and one
// worker of each Run for themselves. So they overtake the others, whatever their number.
// With [WithRecipientOrder] a recipient gets messages in the order in which they were
// enqueued.
//
// # Clocks
//
// Waits and ages are told by the clock of the NATS server, which each machine asks for
// when it opens the outbox and once a minute.
//
// # What is kept
//
// The payload goes once a webhook says that the message was delivered, the record
// [WithRetention] after its last change. [Outbox.Delete] takes out both at once. No
// token is ever written. What a later version of this package has written, an older one
// leaves alone.
package outbox
