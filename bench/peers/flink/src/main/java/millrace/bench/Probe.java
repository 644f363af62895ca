package millrace.bench;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;

/** What one run of a job used and brought out. The source tells it when the first event is made, the sink when the last result is in. */
public final class Probe {
    private static volatile Probe current;

    private Usage from;
    private Usage to;
    private long out;
    private double sum;
    private long checksum;

    /** Makes the probe of the next run; there is one run at a time in a process. */
    static Probe next() {
        return current = new Probe();
    }

    static Probe current() {
        return Objects.requireNonNull(current);
    }

    synchronized void begin() {
        if (from == null) {
            from = Usage.now();
        }
    }

    /** A sink's writer has had all; the last one counts. */
    synchronized void end(long out, double sum, long checksum) {
        this.out += out;
        this.sum += sum;
        this.checksum += checksum;
        to = Usage.now();
    }

    synchronized long out() {
        return out;
    }

    synchronized double sum() {
        return sum;
    }

    synchronized long checksum() {
        return checksum;
    }

    /** What was used from the first event to the last result. */
    synchronized Usage used() {
        return new Usage(to.wall - from.wall, to.cpu - from.cpu, to.gc - from.gc, to.bytes - from.bytes);
    }

    /** Nanoseconds of time, of the process's processor time and of the garbage collector's, and bytes allocated by Java threads. */
    record Usage(long wall, long cpu, long gc, long bytes) {
        static Usage now() {
            var os = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
            return new Usage(System.nanoTime(), os.getProcessCpuTime(), gcTime(), allocated());
        }

        private static long allocated() {
            var threads = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
            long sum = 0;
            for (long b : threads.getThreadAllocatedBytes(threads.getAllThreadIds())) {
                sum += Math.max(b, 0);
            }
            return sum;
        }

        /** The collectors' threads are the only ones of these names, and live as long as the process. */
        private static long gcTime() {
            long sum = 0;
            try (DirectoryStream<Path> tasks = Files.newDirectoryStream(Path.of("/proc/self/task"))) {
                for (Path t : tasks) {
                    String name = read(t.resolve("comm"));
                    if (name.startsWith("GC Thread") || name.startsWith("G1 ") || name.startsWith("ZWorker") || name.startsWith("ZDriver") || name.startsWith("Shenandoah")) {
                        String stat = read(t.resolve("schedstat"));
                        sum += Long.parseLong(stat.substring(0, Math.max(stat.indexOf(' '), 0)));
                    }
                }
            } catch (IOException e) {
                return 0; // no Linux: no share of the collector
            }
            return sum;
        }

        private static String read(Path p) throws IOException {
            try {
                return Files.readString(p);
            } catch (java.nio.file.NoSuchFileException e) {
                return ""; // the thread has ended
            }
        }
    }
}
