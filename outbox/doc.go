// Package outbox is a durable queue of WhatsApp messages in a database, for messages that
// must outlive the process and the outage.
//
//	db, err := sqlite.Open("/var/lib/reminders/outbox.db") // or PostgreSQL: see Postgres
//	o, err := outbox.Open(ctx, outbox.SQLite(db), nil, outbox.WithAccessToken(token))
//	err = o.Enqueue(ctx, "reminder-4711", phoneNumberID, payload)
//	err = o.Run(ctx) // here, or on any number of other machines
//
// What becomes of a failure is decided by [graphretry.Policy.Next], as for every job queue;
// the waits are spent in the queue.
//
// # The life of a message
//
// [Outbox.Enqueue] writes the message and its place in the queue: [StateQueued]. A Run
// claims it when a worker is free and the rate allows it, writes [StateSending], and sends.
// The answer decides:
//
//   - Meta has taken it, which a status of 2xx alone does not say: [StateSent]. The answer
//     names the message, or is {"success":true}, as for a read receipt.
//   - A Graph error, which says that it was not sent: back to StateQueued until
//     the policy's wait is over, or [StateFailed].
//   - No connection was made, so nothing was sent: back to StateQueued.
//   - An answer that is about the phone number and not the message, such as an
//     expired token or a proxy's 407, or about a limit: back to StateQueued, until the message
//     is too old.
//   - Anything else, such as a connection that broke, a timeout, or a gateway's
//     502: [StateUnknown]. It is not sent again.
//
// # In your transaction
//
// [Outbox.EnqueueTx] has a message go out if and only if a transaction of yours commits.
// It is one INSERT into NAME_message of id, phone_number_id and payload, and so any program
// may do the same, in any language: that is a contract. It may give label, urgent, and
// not_before and expires_at in microseconds since 1970, too; the other columns are the
// outbox's own. What was committed is StateQueued at once. A Run takes it in within half a
// second: it checks it as Enqueue does, and what could not be enqueued is StateFailed, with
// the reason. Transactions that overlap have no order between them.
//
// # Nothing is sent twice
//
// StateSending is written right before each attempt, beneath the transport and its outage
// gate, on the condition that the message is still claimed by this Run; and it is on the
// database's disk before anything is sent. How the attempt ended is written on the
// condition that it was this attempt's. If the database does not confirm a mark within 15 s,
// it is taken back, and nothing is sent; an end is written however long that takes.
//
// Each [Outbox.Run] counts up a heartbeat in its row every 5 s. A Run whose heartbeat has not
// moved for 30 s, by the clock of the one who watches, is taken for dead: what it had claimed
// is free, and what it was sending is unknown. If it was only frozen, it finds its claims
// gone when it wakes, and sends none of them; an answer that comes late settles an unknown
// message still.
//
// This relies on Meta: a Graph error of a retried code is taken for
// "not sent". Meta's documentation says so, but does not guarantee it. If a message that
// arrives twice is worse than one that never does, have such codes not retried:
// [graphretry.WithoutRetryOn] in [WithTransportOptions]. And it relies on the database: one
// that forgets what it has confirmed, as a replica does that lags behind and takes over, has
// those messages sent again. After a restore see [Outbox.ParkAll].
//
// # Phone numbers
//
// The messages of one phone number have a rate of their own that all machines share
// ([WithRate]), and a share of the workers. After 3 ends in a row that say nothing of the
// message, ambiguous ones among them, the number is held, for all machines: its messages
// stay in the queue, and one at a time goes out as a probe, after the intervals of the
// schedule: 5, 10, 20 s and on, up to 3 minutes. Any other answer releases it. So an
// expired token fails no message, and a gateway that is down leaves in doubt only those that
// were under way at the time, and one for each probe. Where every number is held for an
// ambiguous reason, one probe serves all.
//
// A message can be the only one that gets such an answer, for what it says or is. So a probe
// is the message that was refused longest ago, and a message that is refused once more,
// after another of its number was accepted, says nothing of the number. After 3 refusals,
// with another message accepted between each two, it has failed. While no other is accepted
// it waits, and a token that has expired never counts.
//
// # Order
//
// Within a number messages go in the order of their [NotBefore] or of their enqueueing,
// [Urgent] ones first, which have one worker of each Run for themselves. Where calls of
// Enqueue overlap there is no order between them. With [WithRecipientOrder] a recipient gets
// one message after the other.
//
// # Outcomes
//
// [WithOutcome] has a function called at least once for each outcome of each message, also
// after a crash: what is to be told is written with the change itself. [WithObserver] is
// told what this process does, once, when it happens: for metrics, such as those of the module
// github.com/graphretry/graphretry/outbox/oteloutbox.
//
// # Unknown messages
//
// [Outbox.HandleWebhook] settles them, since Meta's status webhooks carry the id
// of the message. It knows each attempt by its wamid: a device that has the message beats
// every failure, and the failure of one attempt says nothing of another. [Outbox.Unknown] lists those that no webhook has settled: of
// these most were never taken. [Outbox.Resend] and [Outbox.Drop] are a person's
// decision. For all messages that a [Filter] means, such as those of a [Label], there are
// [Outbox.ResendAll], [Outbox.DropAll], [Outbox.ParkAll] and [Outbox.DeleteAll].
//
// # The database
//
// Times are told by the database's clock. Trouble that passes, such as a server that
// restarts, a deadlock or a disk that is full, is waited out, and logged after the third
// try; all else is an error in the database's words. A call whose context has no deadline
// fails after 15 s, but for EnqueueTx, whose transaction is yours. [Outbox.Health] is for a
// probe, and [Outbox.Stats] for alerts.
//
// The payload goes once a webhook says that the message was delivered, the rest
// [WithRetention] after its last change. [Outbox.Delete] takes out both at once. No
// token is ever written. A program goes on beside tables that are one version newer.
package outbox
