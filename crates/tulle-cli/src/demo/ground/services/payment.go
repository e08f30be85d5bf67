// `payment`, in Go: answers who it is. It knows of no mesh.
//
// payment PORT INSTANCE VERSION
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("payment PORT INSTANCE VERSION")
	}
	port, instance, version := os.Args[1], os.Args[2], os.Args[3]
	answer, err := json.Marshal(map[string]string{
		"service": "payment", "version": version, "instance": instance,
	})
	if err != nil {
		log.Fatal(err)
	}
	pay := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		line, _ := json.Marshal(map[string]any{
			"instance": instance, "method": r.Method, "path": r.URL.Path, "headers": r.Header,
		})
		fmt.Println(string(line))
		w.Header().Set("content-type", "application/json")
		w.Write(answer)
	}
	log.Fatal(http.ListenAndServe("0.0.0.0:"+port, http.HandlerFunc(pay)))
}
