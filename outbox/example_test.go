package outbox_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

func Example() {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(filepath.Join(dir, "outbox.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	// In place of Meta's API, one that is down for a moment.
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})

	ctx, cancel := context.WithCancel(context.Background())
	o, err := outbox.Open(ctx, outbox.SQLite(db), api,
		outbox.WithAccessToken("EAAG..."),
		outbox.WithTransportOptions(graphretry.WithInitialInterval(10*time.Millisecond)))
	if err != nil {
		log.Fatal(err)
	}
	defer o.Close()

	payload := []byte(`{"messaging_product":"whatsapp","to":"15550001111","type":"text","text":{"body":"Your table is booked."}}`)
	if err := o.Enqueue(ctx, "booking-4711", "106540352242922", payload); err != nil {
		log.Fatal(err)
	}

	go func() {
		defer cancel()
		for {
			status, err := o.Status(ctx, "booking-4711")
			if err != nil {
				log.Fatal(err)
			}
			if status.State == outbox.StateSent {
				fmt.Println(status.ID, "is", status.State, "after", status.Retries, "retry")
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if err := o.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: booking-4711 is sent after 1 retry
}
