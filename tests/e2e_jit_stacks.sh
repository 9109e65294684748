#!/usr/bin/env bash
# Stacks through code made at run time reach the thread's first function by frame pointers: Node, and Java when it is told to
# keep them. HotSpot's interpreter pushes return addresses that no call stands before.
. "$(dirname "$0")/lib.sh"
need ab jq
share() { # name requests command...: at least nine of ten stacks are whole, and go through code of no file
    local name=$1 n=$2 port whole all jit
    shift 2
    port=$(free_port)
    "$SONDE" record --quiet -o "$scratch/$name.db" --set memory.sample_bytes=16384 "$scratch/$name.rec" "${@//PORT/$port}" \
        >"$scratch/out" 2>"$scratch/err" &
    sonde=$!
    pids+=("$sonde")
    wait_listening "$port" || exit 1
    ab -q -n "$n" -c 4 -k "http://127.0.0.1:$port/" >"$scratch/ab" 2>&1 || fail "$name: ab"
    kill -TERM "$sonde"
    wait "$sonde"
    "$SONDE" dump "$scratch/$name.rec" | grep ' allocated .*end=' >"$scratch/samples"
    all=$(wc -l <"$scratch/samples")
    whole=$(grep -c 'end=whole' "$scratch/samples")
    jit=$("$SONDE" flame "$scratch/$name.db" --by allocated --format collapsed | grep -c '\[jit\]')
    if [ "$all" -gt 1000 ] && [ "$jit" -gt 10 ] && [ $((whole * 10)) -gt $((all * 9)) ]; then
        echo "ok: $name: $whole of $all stacks are whole"
    else
        fail "$name: $whole of $all stacks are whole, $jit places with made code"
        sed 's/.*end=\([a-z]*\).*/\1/' "$scratch/samples" | sort | uniq -c
    fi
}

if command -v node >/dev/null; then
    cat >"$scratch/server.js" <<'C'
const http = require('http'), zlib = require('zlib'), data = [];
for (let i = 0; i < 300; i++) data.push({id: i, name: 'n' + i, tags: ['a', 'b', String(i)]});
http.createServer((q, r) => {
    const text = JSON.stringify(JSON.parse(JSON.stringify(data)));
    r.setHeader('x', zlib.gzipSync(text).length);
    r.end(text.slice(0, 2000));
}).listen(+process.argv[2], '127.0.0.1');
C
    share node 1000 node "$scratch/server.js" PORT
fi
if command -v javac >/dev/null; then
    cat >"$scratch/Packs.java" <<'C'
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.util.zip.GZIPOutputStream;
public class Packs {
    static byte[] pack(int lines) throws Exception {
        ByteArrayOutputStream to = new ByteArrayOutputStream();
        try (GZIPOutputStream gzip = new GZIPOutputStream(to)) {
            for (int i = 0; i < lines; i++) gzip.write(("line " + i + "\n").getBytes());
        }
        ByteBuffer.allocateDirect(20000).put(0, (byte) to.size());
        return to.toByteArray();
    }
    public static void main(String[] a) throws Exception {
        HttpServer s = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(a[0])), 50);
        s.setExecutor(java.util.concurrent.Executors.newFixedThreadPool(4));
        s.createContext("/", x -> {
            try {
                byte[] r = pack(300);
                x.sendResponseHeaders(200, r.length);
                x.getResponseBody().write(r);
                x.close();
            } catch (Exception e) { e.printStackTrace(); }
        });
        s.start();
    }
}
C
    (cd "$scratch" && javac Packs.java) || { fail javac; finish; }
    share java 2000 java -Xmx128m -XX:+PreserveFramePointer -cp "$scratch" Packs PORT
fi
finish
