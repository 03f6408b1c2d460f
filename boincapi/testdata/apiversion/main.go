// Command apiversion is an app that does nothing: the server's tools must find the API version in its executable.
package main

import (
	"context"

	"boincdocker/boincapi"
)

func main() {
	app, err := boincapi.Start(context.Background(), boincapi.Options{})
	if err == nil {
		err = app.Finish(0, "")
	}
	if err != nil {
		panic(err)
	}
}
