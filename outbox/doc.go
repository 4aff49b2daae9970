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
// [Outbox.Enqueue] puts it into the queue and writes its record: [StateQueued].
// A worker in [Outbox.Run] takes it, waits for the API if that is down, writes
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
// JetStream then delivers the message to another one, which finds that, and makes
// it StateUnknown.
//
// # Lanes
//
// The messages of one phone number are a lane, with a rate of its own: [WithRate].
// After 3 ends in a row that say nothing of the message, ambiguous ones among them,
// a process holds the lane: its messages stay in the queue until they are too old,
// and one at a time goes out as a probe, after the intervals of the schedule: 5, 10,
// 20 s and on, up to 3 minutes. Any other answer releases it. So an expired token fails
// no message, and a gateway that is down leaves in doubt only those that were under
// way at the time, and one for each probe. Each process finds out for itself.
//
// A message that waits is not with a worker: it is given back to JetStream with a
// delay, and JetStream delivers it again. The waits of one phone number keep nothing
// of another out. If the server restarts, or its leader changes, a delay is forgotten:
// the message comes at once, its record says that it is too early, and it is given
// back again. JetStream holds some 100 bytes of memory for each message that waits.
//
// # Nothing is sent twice
//
// The record is only ever changed by compare-and-set, and StateSending is written
// right before each attempt, beneath the transport and its outage gate. So no
// second attempt is made while one may have reached Meta, whoever dies when; and a
// process that dies while waiting for the API to come back leaves nothing in
// doubt.
//
// What this rests on is Meta's word: a Graph error of a retried code is taken for
// "not sent". Meta's texts say so, but nobody guarantees it. If a message that
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
// # Clocks
//
// Waits and ages are told by the clock of the NATS server, which each machine asks for
// when it opens the outbox and once a minute.
//
// # Urgent messages
//
// [Urgent] messages have a subject and a consumer of their own, and one worker of each
// Run for themselves. So they overtake the others, whatever their number.
package outbox
