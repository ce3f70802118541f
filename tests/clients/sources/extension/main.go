// An extension as vendors ship them: a program of its own, compiled, that registers, listens and says good-bye.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
)

var base = "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2020-01-01/extension/"

func call(method, path, id string, body any) (http.Header, []byte) {
	text, _ := json.Marshal(body)
	request, _ := http.NewRequest(method, base+path, bytes.NewReader(text))
	request.Header.Set("Lambda-Extension-Name", filepath.Base(os.Args[0]))
	if id != "" {
		request.Header.Set("Lambda-Extension-Identifier", id)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Println("extension failed:", err)
		os.Exit(1)
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != 200 {
		fmt.Println("extension refused:", answer.Status, string(said))
		os.Exit(1)
	}
	return answer.Header, said
}

func main() {
	headers, said := call("POST", "register", "", map[string][]string{"events": {"INVOKE", "SHUTDOWN"}})
	fmt.Println("extension registered:", string(said))
	id := headers.Get("Lambda-Extension-Identifier")
	for invocations := 0; ; {
		_, said := call("GET", "event/next", id, nil)
		var event struct{ EventType, RequestId, ShutdownReason string }
		if err := json.Unmarshal(said, &event); err != nil {
			fmt.Println("extension cannot read:", string(said))
			os.Exit(1)
		}
		if event.EventType == "SHUTDOWN" {
			fmt.Println("extension ends:", event.ShutdownReason, "after", invocations)
			return
		}
		invocations++
		fmt.Println("extension saw:", event.RequestId)
	}
}
