package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type answer struct {
	Event     map[string]any `json:"event"`
	RequestID string         `json:"requestId"`
	Arn       string         `json:"arn"`
	Left      int64          `json:"left"`
	Name      string         `json:"name"`
	Trace     string         `json:"trace"`
}

func handler(ctx context.Context, event map[string]any) (*answer, error) {
	switch event["do"] {
	case "fail":
		return nil, errors.New("boom")
	case "exit":
		os.Exit(3)
	case "sleep":
		time.Sleep(time.Minute)
	case "log":
		fmt.Println("a line of the function")
	}
	facts, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	trace, _ := ctx.Value("x-amzn-trace-id").(string)
	return &answer{
		Event:     event,
		RequestID: facts.AwsRequestID,
		Arn:       facts.InvokedFunctionArn,
		Left:      time.Until(deadline).Milliseconds(),
		Name:      lambdacontext.FunctionName,
		Trace:     trace,
	}, nil
}

// An io.Reader is streamed.
func stream(_ context.Context, _ map[string]any) (io.Reader, error) {
	return io.MultiReader(strings.NewReader("part 0\n"), strings.NewReader("part 1\n"), strings.NewReader("part 2\n")), nil
}

func main() {
	if os.Getenv("_HANDLER") == "stream" {
		lambda.Start(stream)
	} else {
		lambda.Start(handler)
	}
}
