// Command readme is the program of the outbox's README. Its test runs it.
package main

import (
	"context"
	"database/sql"
	"log"
	"os"
	"os/signal"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	db, err := sqlite.Open("shop.db")
	if err != nil {
		log.Fatal(err)
	}
	o, err := outbox.Open(ctx, outbox.SQLite(db), nil, outbox.WithAccessToken(os.Getenv("WHATSAPP_TOKEN")))
	if err != nil {
		log.Fatal(err)
	}
	if err := order(ctx, db, o); err != nil {
		log.Fatal(err)
	}
	if err := o.Run(ctx); err != nil { // sends, until Ctrl-C
		log.Fatal(err)
	}
}

func order(ctx context.Context, db *sql.DB, o *outbox.Outbox) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// Write the order here, with tx.
	err = o.EnqueueTx(ctx, tx, outbox.Message{
		ID:            "order-4711",
		PhoneNumberID: "106540352242922",
		Payload:       []byte(`{"messaging_product":"whatsapp","to":"15550001111","type":"text","text":{"body":"Thank you."}}`),
	})
	if err != nil {
		return err
	}
	return tx.Commit() // the message goes out if and only if this succeeds
}
