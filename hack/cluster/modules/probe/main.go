// Command probe is what the cluster's own tests run in pods: a server that says who it is, a DNS lookup, an HTTP request.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

const usage = "usage: probe serve ADDRESS | probe lookup NAME | probe get URL"

func serve(address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, os.Getenv("HOSTNAME"))
	}))
}

func lookup(name string) error {
	addresses, err := net.LookupHost(name)
	for _, address := range addresses {
		fmt.Println(address)
	}
	return err
}

func get(url string) error {
	client := http.Client{Timeout: 2 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func main() {
	commands := map[string]func(string) error{"serve": serve, "lookup": lookup, "get": get}
	if len(os.Args) != 3 || commands[os.Args[1]] == nil {
		log.Fatal(usage)
	}
	if err := commands[os.Args[1]](os.Args[2]); err != nil {
		log.Fatal(err)
	}
}
