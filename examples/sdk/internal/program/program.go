// Package program is the part of both programs that has nothing to do with their
// SDK: the arguments, the account, the fake API, and what is printed.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// Account is the business that messages come from.
type Account struct {
	Token         string
	PhoneNumberID string
}

// FakeAccount is an account of the fake API.
var FakeAccount = Account{Token: "EAAfakefakefakefake", PhoneNumberID: "106540352242922"}

// Messenger is an SDK that has its client and its account. Both methods return
// the id that the API gave the message.
type Messenger interface {
	SendText(ctx context.Context, to, text string) (id string, err error)
	SendImage(ctx context.Context, to, path, caption string) (id string, err error)
}

// Connect wraps client and hands it to an SDK.
type Connect func(client *http.Client, account Account) (Messenger, error)

// Main is the main function of the program of that name.
func Main(name string, connect Connect) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := Run(ctx, name, os.Args[1:], os.Stdout, connect)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatal(err)
	}
}

// Run sends the message that args tell, and prints its id.
func Run(ctx context.Context, name string, args []string, out io.Writer, connect Connect) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: %s [flags] phone-number text\n", name)
		flags.PrintDefaults()
	}
	fake := flags.Bool("fake", false, "send to a fake API that is down at first")
	image := flags.String("image", "", "send this JPEG `file`, with the text under it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("want two arguments after the flags, the recipient's phone number and a text, not %q", flags.Args())
	}
	to, text := flags.Arg(0), flags.Arg(1)

	client, account, err := access(*fake)
	if err != nil {
		return err
	}
	messenger, err := connect(client, account)
	if err != nil {
		return err
	}
	var id string
	if *image != "" {
		id, err = messenger.SendImage(ctx, to, *image, text)
	} else {
		id, err = messenger.SendText(ctx, to, text)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "accepted as", id)
	return err
}

// access is a client, as a program has it before graphretry, and an account that
// may use it.
func access(fake bool) (*http.Client, Account, error) {
	if fake {
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
		return &http.Client{Transport: api}, FakeAccount, nil
	}
	account := Account{
		Token:         os.Getenv("WHATSAPP_TOKEN"),
		PhoneNumberID: os.Getenv("WHATSAPP_PHONE_NUMBER_ID"),
	}
	if account.Token == "" || account.PhoneNumberID == "" {
		return nil, Account{}, errors.New("set WHATSAPP_TOKEN and WHATSAPP_PHONE_NUMBER_ID to send to Meta, or give -fake to send to a fake API")
	}
	return &http.Client{}, account, nil
}
